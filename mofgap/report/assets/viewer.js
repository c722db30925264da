"use strict";
// One WebGL stage draws a picture of every card, then moves into the card or the row that is looked at.
(() => {
  const structures = JSON.parse(document.getElementById("structures").textContent);
  const colours = JSON.parse(document.getElementById("colours").textContent);
  const views = [...document.querySelectorAll(".card .view")];
  const OTHER = "#ff1493";
  const stage = document.createElement("div");
  stage.id = "stage";
  stage.ariaHidden = "true";
  document.querySelector("main").append(stage);
  let viewer = null;
  try {
    viewer = $3Dmol.createViewer(stage, { backgroundColor: "#eef1f4", orthographic: true });
  } catch (error) {
    viewer = null;
  }
  if (!viewer) {
    const say = (view) => {
      const words = document.createElement("p");
      words.className = "words";
      words.textContent = "This browser has no WebGL to draw the structure with.";
      view.replaceChildren(words);
    };
    views.forEach(say);
    document.addEventListener("row-opened", ({ detail }) => say(detail.view));
    stage.remove();
    return;
  }
  const pending = [...views];
  let turned = null;
  let shown = null;
  let polyhedra = true;

  const norm = (v) => Math.hypot(...v);
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  const unit = (v) => v.map((x) => x / norm(v));
  const point = ([x, y, z]) => ({ x, y, z });
  const colour = (symbol) => colours[symbol] || OTHER;

  function load(view) {
    shown = structures[view.dataset.structure];
    draw();
    viewer.zoomTo();
    viewer.zoom(1.45);  // zoomTo leaves room for a sphere around all atoms
    along(shortest(shown.cell));
  }

  function draw() {
    viewer.removeAllModels();
    viewer.removeAllShapes();
    const { symbols, positions, bonds, cell } = shown;
    const atoms = symbols.map((elem, i) => {
      const [x, y, z] = positions[i];
      return { elem, x, y, z, serial: i, bonds: [], bondOrder: [], color: parseInt(colour(elem).slice(1), 16) };
    });
    for (const [i, j] of bonds) {
      for (const [from, to] of [[i, j], [j, i]]) {
        atoms[from].bonds.push(to);
        atoms[from].bondOrder.push(1);
      }
    }
    viewer.addModel().addAtoms(atoms);
    viewer.setStyle({}, { stick: { radius: 0.12 }, sphere: { scale: 0.22 } });
    if (cell.length === 3) box(cell);
    if (polyhedra) for (const [metal, faces] of shown.polyhedra) hull(metal, faces);
  }

  // The coordination polyhedron of a metal, each triangle with a normal of its own.
  function hull(metal, faces) {
    const { symbols, positions } = shown;
    const vertexArr = [], normalArr = [], faceArr = [];
    for (const face of faces) {
      const [p, q, r] = face.map((i) => positions[i]);
      const edge = (u, v) => v.map((x, i) => x - u[i]);
      let normal = cross(edge(p, q), edge(p, r));
      if (norm(normal) === 0) continue;
      const inwards = dot(normal, edge(p, positions[metal])) > 0;
      normal = unit(inwards ? normal.map((x) => -x) : normal);
      for (const corner of inwards ? [p, r, q] : [p, q, r]) {
        faceArr.push(vertexArr.length);
        vertexArr.push(point(corner));
        normalArr.push(point(normal));
      }
    }
    if (faceArr.length) viewer.addCustom({ vertexArr, normalArr, faceArr, color: colour(symbols[metal]), opacity: 0.55 });
  }

  // The twelve edges of the cell; those from the origin along a, b and c in red, green and blue.
  function box(cell) {
    const sum = (u, v) => u.map((x, i) => x + v[i]);
    for (const [i, line] of [[0, "#c0392b"], [1, "#1e8449"], [2, "#1f5fbf"]]) {
      const [p, q] = cell.filter((_, j) => j !== i);
      for (const start of [[0, 0, 0], p, q, sum(p, q)]) {
        const first = start.every((x) => x === 0);
        viewer.addLine({ start: point(start), end: point(sum(start, cell[i])), color: first ? line : "#57606a" });
      }
    }
  }

  function shortest(cell) {
    if (cell.length !== 3) return 2;
    const lengths = cell.map(norm);
    return lengths.indexOf(Math.min(...lengths));
  }

  // Look along a vector of the cell, the next one to the right: the rotation as a quaternion.
  function along(axis) {
    const { cell } = shown;
    if (cell.length === 3) {
      const towards = unit(cell[axis]);
      const next = cell[(axis + 1) % 3];
      const right = unit(next.map((x, i) => x - dot(next, towards) * towards[i]));
      const up = cross(towards, right);
      viewer.setView([...viewer.getView().slice(0, 4), ...quaternion([right, up, towards])]);
    }
    viewer.render();
  }

  function quaternion([[a, b, c], [d, e, f], [g, h, i]]) {
    const candidates = [
      [1 + a - e - i, d + b, c + g, h - f],
      [d + b, 1 - a + e - i, h + f, c - g],
      [c + g, h + f, 1 - a - e + i, d - b],
      [h - f, c - g, d - b, 1 + a + e + i],
    ];
    const best = candidates.reduce((one, other, k) => (other[k] > candidates[one][one] ? k : one), 0);
    return unit(candidates[best]);
  }

  function picture() {
    const view = pending.shift();
    if (!view) return false;
    load(view);
    const image = document.createElement("img");
    image.src = viewer.pngURI();
    image.alt = `One unit cell of ${view.dataset.name}`;
    view.prepend(image);
    view.after(legend());
    return true;
  }

  function legend() {
    const list = document.createElement("ul");
    list.className = "legend";
    list.setAttribute("aria-label", "Colours of the elements");
    for (const symbol of Object.keys(colours).filter((each) => shown.symbols.includes(each))) {
      const dotted = document.createElement("i");
      dotted.style.background = colour(symbol);
      const item = list.appendChild(document.createElement("li"));
      item.append(dotted, symbol);
    }
    return list;
  }

  function rest() {
    while (picture());
  }

  function tools() {
    const bar = document.createElement("div");
    bar.className = "tools";
    const button = (text, label, act) => {
      const made = bar.appendChild(document.createElement("button"));
      made.type = "button";
      made.textContent = text;
      made.setAttribute("aria-label", label);
      made.addEventListener("click", () => act(made));
      return made;
    };
    [..."abc"].forEach((name, i) => button(name, `View along ${name}`, () => along(i)));
    if (shown.polyhedra.length) {
      button("polyhedra", "Coordination polyhedra of metals", (made) => {
        polyhedra = !polyhedra;
        made.setAttribute("aria-pressed", String(polyhedra));
        draw();
        viewer.render();
      }).setAttribute("aria-pressed", String(polyhedra));
    }
    return bar;
  }

  // Put the stage into a view, in which it answers to the mouse and to keys.
  function enter(view) {
    rest();
    leave();
    turned = view;
    const button = view.querySelector(".turn");
    if (button) button.hidden = true;
    view.append(stage);
    stage.ariaHidden = null;
    stage.tabIndex = 0;
    stage.setAttribute("role", "application");
    stage.setAttribute("aria-label", `${view.dataset.name} in 3D: arrow keys turn, plus and minus zoom, a, b and c look along an axis`);
    viewer.resize();
    load(view);
    view.append(tools());
    stage.focus();
  }

  function leave() {
    if (!turned) return;
    const button = turned.querySelector(".turn");
    if (button) button.hidden = false;
    turned.querySelector(".tools")?.remove();
    stage.ariaHidden = "true";
    stage.removeAttribute("tabindex");
    document.querySelector("main").append(stage);
    turned = null;
  }

  const KEYS = {
    ArrowLeft: () => viewer.rotate(-10, "y"),
    ArrowRight: () => viewer.rotate(10, "y"),
    ArrowUp: () => viewer.rotate(-10, "x"),
    ArrowDown: () => viewer.rotate(10, "x"),
    "+": () => viewer.zoom(1.2),
    "-": () => viewer.zoom(1 / 1.2),
    a: () => along(0),
    b: () => along(1),
    c: () => along(2),
  };
  stage.addEventListener("keydown", (event) => {
    if (!KEYS[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    KEYS[event.key]();
    viewer.render();
  });
  for (const view of views) view.querySelector(".turn").addEventListener("click", () => enter(view));
  document.addEventListener("row-opened", ({ detail: { view } }) => {
    document.querySelector("#row .legend")?.remove();
    if (!structures[view.dataset.structure]) return;
    view.replaceChildren();
    enter(view);
    view.after(legend());
  });
  document.addEventListener("row-closed", leave);
  // One at a time, so that the page answers meanwhile; all at once for paper.
  const step = () => { if (picture()) setTimeout(step); };
  setTimeout(step);
  window.addEventListener("beforeprint", rest);
})();
