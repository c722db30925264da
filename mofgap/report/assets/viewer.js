"use strict";
// One WebGL stage draws a picture of every structure, then moves into the card that is turned.
(() => {
  const structures = JSON.parse(document.getElementById("structures").textContent);
  const views = [...document.querySelectorAll(".view")];
  if (!views.length) return;
  const stage = document.createElement("div");
  stage.id = "stage";
  stage.ariaHidden = "true";
  document.querySelector("main").append(stage);
  let viewer = null;
  try {
    viewer = $3Dmol.createViewer(stage, { backgroundColor: "#eef1f4" });
  } catch (error) {
    viewer = null;
  }
  if (!viewer) {
    for (const view of views) {
      const words = document.createElement("p");
      words.className = "words";
      words.textContent = "This browser has no WebGL to draw the structure with.";
      view.replaceChildren(words);
    }
    stage.remove();
    return;
  }
  const pending = [...views];
  let turned = null;

  function load(view) {
    viewer.removeAllModels();
    viewer.removeAllShapes();
    const { symbols, positions, bonds, cell } = structures[view.dataset.structure];
    const atoms = symbols.map((elem, i) => {
      const [x, y, z] = positions[i];
      return { elem, x, y, z, serial: i, bonds: [], bondOrder: [] };
    });
    for (const [i, j] of bonds) {
      for (const [from, to] of [[i, j], [j, i]]) {
        atoms[from].bonds.push(to);
        atoms[from].bondOrder.push(1);
      }
    }
    viewer.addModel().addAtoms(atoms);
    viewer.setStyle({}, { stick: { radius: 0.12 }, sphere: { scale: 0.22 } });
    box(cell);
    viewer.zoomTo();
    viewer.rotate(15, "y");
    viewer.rotate(8, "x");
    viewer.render();
  }

  // The twelve edges of the cell; those from the origin along a, b and c in red, green and blue.
  function box(cell) {
    const sum = (u, v) => u.map((x, i) => x + v[i]);
    const point = ([x, y, z]) => ({ x, y, z });
    for (const [i, colour] of [[0, "#c0392b"], [1, "#1e8449"], [2, "#1f5fbf"]]) {
      const [p, q] = cell.filter((_, j) => j !== i);
      for (const start of [[0, 0, 0], p, q, sum(p, q)]) {
        const first = start.every((x) => x === 0);
        viewer.addLine({ start: point(start), end: point(sum(start, cell[i])), color: first ? colour : "#57606a" });
      }
    }
  }

  function picture() {
    const view = pending.shift();
    if (!view) return false;
    load(view);
    const image = document.createElement("img");
    image.src = viewer.pngURI();
    image.alt = `One unit cell of ${view.dataset.name}`;
    view.prepend(image);
    return true;
  }

  function rest() {
    while (picture());
  }

  function turn(view) {
    rest();
    if (turned) turned.querySelector(".turn").hidden = false;
    turned = view;
    view.querySelector(".turn").hidden = true;
    view.append(stage);
    stage.ariaHidden = null;
    stage.tabIndex = 0;
    stage.setAttribute("role", "application");
    stage.setAttribute("aria-label", `${view.dataset.name} in 3D: arrow keys turn, plus and minus zoom`);
    viewer.resize();
    load(view);
    stage.focus();
  }

  const KEYS = {
    ArrowLeft: () => viewer.rotate(-10, "y"),
    ArrowRight: () => viewer.rotate(10, "y"),
    ArrowUp: () => viewer.rotate(-10, "x"),
    ArrowDown: () => viewer.rotate(10, "x"),
    "+": () => viewer.zoom(1.2),
    "-": () => viewer.zoom(1 / 1.2),
  };
  stage.addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
    viewer.render();
  });
  for (const view of views) view.querySelector(".turn").addEventListener("click", () => turn(view));
  // One at a time, so that the page answers meanwhile; all at once for paper.
  const step = () => { if (picture()) setTimeout(step); };
  setTimeout(step);
  window.addEventListener("beforeprint", rest);
})();
