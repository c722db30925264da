"use strict";
// The ranked table. Whatever comes from the data is set as text, never as markup.
(() => {
  const ON_SCREEN = 25, ON_PAPER = 200;
  const data = JSON.parse(document.getElementById("rows").textContent);
  const column = Object.fromEntries(data.columns.map((name, i) => [name, data.values[i]]));
  const n = data.values[0].length;
  const [lo, hi] = data.ends.map((name) => column[name] || []);
  const decimals = (digits) => (x) => x.toFixed(digits);
  const percent = (x) => `${Math.round(100 * x)} %`;
  const axisEnd = hi && hi.length ? hi.reduce((most, x) => Math.max(most, x || 0), 1) : 1;
  const SHOWN = [
    { key: "rank", label: "#", number: true, text: String },
    { key: "structure_id", label: "Structure", css: "name", text: String },
    { key: "gap_ev", label: "Gap / eV", number: true, text: decimals(2) },
    { key: "p_in_window", label: "In window", number: true, text: percent },
    { key: "gap_std_ev", label: "± / eV", number: true, text: decimals(2) },
    { key: null, label: `Interval, 0 to ${axisEnd.toFixed(1)} eV` },
    { key: "pbe_gap_ev", label: "PBE gap / eV", number: true, text: decimals(2) },
    { key: "formula", label: "Formula", css: "formula", text: String },
    { key: "novelty", label: "Novelty", number: true, text: percent },
    { key: "n_atoms", label: "Atoms", number: true, text: String },
    { key: "warnings", label: "Warnings, notes", css: "notes", text: String },
  ].filter(({ key }) => (key === null ? lo.length : column[key] && column[key].some((x) => x !== null)));
  const searched = ["structure_id", "file", "formula", "warnings", "reason"].filter((name) => column[name]);
  const haystack = Array.from({ length: n }, (_, i) =>
    searched.map((name) => column[name][i] || "").join("\n").toLowerCase());
  const symbols = Array.from({ length: n }, (_, i) =>
    new Set((column.formula[i] || "").match(/[A-Z][a-z]?/g) || []));

  const $ = (id) => document.getElementById(id);
  const selected = new Set();
  const elements = new Set();
  let order = Array.from({ length: n }, (_, i) => i);
  let shown = order;
  let sorting = { key: "rank", descending: false };
  let page = 0;
  let perPage = ON_SCREEN;

  function make(tag, css, text) {
    const node = document.createElement(tag);
    if (css) node.className = css;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function sort(key, descending) {
    sorting = { key, descending };
    const values = column[key];
    const { compare } = new Intl.Collator(undefined, { numeric: true });
    const sign = descending ? -1 : 1;
    const missing = (x) => x === null || x === "";
    order = Array.from({ length: n }, (_, i) => i).sort((a, b) => {
      const x = values[a], y = values[b];
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;
      return sign * (typeof x === "number" ? x - y : compare(x, y)) || a - b;
    });
    filter();
  }

  function wanted() {
    const number = (id) => ($(id) && $(id).value !== "" ? Number($(id).value) : null);
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const bounds = [
      ["gap_ev", number("gap-min"), null],
      ["gap_ev", null, number("gap-max")],
      ["gap_std_ev", null, number("std-max")],
      ["p_in_window", number("p-min") === null ? null : number("p-min") / 100, null],
    ].filter(([, least, most]) => least !== null || most !== null);
    const status = $("status").value;
    return (i) =>
      (status === "" || column.status[i] === status || (status === "predicted" && column.status[i] !== "failed")) &&
      words.every((word) => haystack[i].includes(word)) &&
      bounds.every(([key, least, most]) => {
        const x = column[key][i];
        return x !== null && (least === null || x >= least) && (most === null || x <= most);
      }) &&
      [...elements].every((symbol) => symbols[i].has(symbol));
  }

  function filter() {
    shown = order.filter(wanted());
    page = 0;
    draw();
  }

  function interval(i) {
    const bar = make("div", "interval");
    if (lo[i] === null || hi[i] === null) return bar;
    const place = (x) => `${(100 * Math.min(axisEnd, Math.max(0, x))) / axisEnd}%`;
    const span = (css, from, to) => {
      const part = bar.appendChild(make("i", css));
      part.style.left = place(from);
      part.style.right = `calc(100% - ${place(to)})`;
    };
    if (data.window) span("inside", ...data.window);
    span("line", lo[i], hi[i]);
    bar.appendChild(make("i", "dot")).style.left = place(column.gap_ev[i]);
    const words = `${lo[i].toFixed(2)} to ${hi[i].toFixed(2)} eV`;
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", words);
    bar.title = words;
    return bar;
  }

  // Warnings by name, also notes that the gap may be known; of other notes, which many rows have, the number.
  function warnings(cell, i) {
    if (column.status[i] === "failed") {
      cell.append(make("span", "", column.reason[i] || ""));
      return;
    }
    const parts = (column.warnings[i] || "").split(" | ").filter(Boolean);
    const known = (part) => data.known.includes(part.split(":")[0]);
    const notes = parts.filter((part) => data.notes.includes(part.split(":")[0]) && !known(part));
    const chip = (css, text, title) => { cell.appendChild(make("span", css, text)).title = title; };
    for (const part of parts) {
      if (!notes.includes(part)) chip(known(part) ? "chip note" : "chip", part.split(":")[0], part);
    }
    if (notes.length === 1) chip("chip note", notes[0].split(":")[0], notes[0]);
    else if (notes.length) chip("chip note", `${notes.length} notes`, notes.join("\n"));
  }

  // Names may end a line after an underscore alone; only the longest are broken elsewhere.
  const LONG = 30;
  function named(node, name) {
    if (name.length > LONG) node.classList.add("long");
    for (const part of name.split(/(?<=_)/)) node.append(make("span", "part", part), make("wbr"));
    return node;
  }

  function row(i) {
    const tr = make("tr", selected.has(i) ? "selected" : "");
    const box = make("input");
    box.type = "checkbox";
    box.checked = selected.has(i);
    box.setAttribute("aria-label", `Select ${column.structure_id[i]}`);
    box.addEventListener("change", () => {
      if (box.checked) selected.add(i); else selected.delete(i);
      tr.classList.toggle("selected", box.checked);
      count();
    });
    tr.appendChild(make("td", "choose")).append(box);
    for (const { key, number, css, text } of SHOWN) {
      const td = tr.appendChild(make("td", number ? "number" : css));
      if (key === null) td.append(interval(i));
      else if (key === "warnings") warnings(td, i);
      else if (key === "formula") td.append(formula(column.formula[i]));
      else if (key === "structure_id") td.append(opener(i));
      else if (column[key][i] !== null) td.textContent = text(column[key][i]);
      if (key === "structure_id") td.title = column.file[i];
    }
    tr.addEventListener("click", (event) => { if (!event.target.closest("input, button")) open(i); });
    return tr;
  }

  function formula(text) {
    const node = document.createDocumentFragment();
    for (const [j, part] of (text || "").split(/(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)/).entries()) {
      node.append(j % 2 ? make("sub", "", part) : part);
      if (j % 2) node.append(document.createElement("wbr"));  // a long formula may break behind a count
    }
    return node;
  }

  function opener(i) {
    const button = named(make("button", "link"), String(column.structure_id[i]));
    button.type = "button";
    button.addEventListener("click", () => open(i));
    return button;
  }

  // What is known of a row; the viewer puts its structure into #row-view.
  function open(i) {
    const value = (name) => (column[name] ? column[name][i] : null);
    const ev = (x) => `${x.toFixed(2)} eV`;
    const facts = [];
    const add = (label, name, text) => { if (value(name) !== null && value(name) !== "") facts.push([label, text(value(name))]); };
    add("rank", "rank", String);
    add("gap ± spread", "gap_ev", (x) => `${x.toFixed(2)} ± ${ev(value("gap_std_ev") || 0)}`);
    if (lo.length && lo[i] !== null) facts.push(["interval", `${lo[i].toFixed(2)} to ${ev(hi[i])}`]);
    add("in window", "p_in_window", percent);
    add("epistemic std (model)", "epistemic_std_ev", ev);
    add("aleatoric std (labels)", "aleatoric_std_ev", ev);
    add("PBE gap ± spread", "pbe_gap_ev", (x) => `${x.toFixed(2)} ± ${ev(value("pbe_gap_std_ev") || 0)}`);
    add("novelty", "novelty", percent);
    add("atoms", "n_atoms", String);
    add("level of theory", "level_of_theory", String);
    add("model", "model", String);
    add("file", "file", String);
    const list = make("dl");
    for (const [label, text] of facts) {
      const line = list.appendChild(make("div"));
      line.append(make("dt", "", label), make("dd", "", text));
    }
    const told = make("ul", "warnings");
    for (const part of (value("status") === "failed" ? value("reason") : value("warnings") || "").split(" | ").filter(Boolean)) {
      const note = data.notes.includes(part.split(":")[0]);
      told.append(make("li", note ? "note" : "", part));
    }
    $("row-name").textContent = column.structure_id[i];
    $("row-formula").replaceChildren(formula(column.formula[i]));
    $("row-facts").replaceChildren(list, ...neighbours(value("nearest")), told);
    const missing = value("status") === "failed" ? "This file could not be read as a structure."
      : "The structure of this row is not on the page: its file was not found or has changed, or the page was full.";
    $("row-view").replaceChildren(make("p", "words", missing));
    $("row-view").dataset.structure = i;
    $("row-view").dataset.name = column.structure_id[i];
    $("row").showModal();
    document.dispatchEvent(new CustomEvent("row-opened", { detail: { view: $("row-view") } }));
  }

  // "id (name, gap eV) | ..." as a list, the name first.
  function neighbours(text) {
    if (!text) return [];
    const list = make("ul", "nearest");
    for (const each of text.split(" | ")) {
      const [, id, name, gap] = each.match(/^(.*?)(?: \((.*?)(?:, )?(-?[\d.]+ eV)?\))?$/s);
      const line = list.appendChild(make("li"));
      line.append(make("b", "", name || id), " ", make("small", "", name ? id : ""), " ", make("span", "", gap || "gap not known"));
    }
    return [make("h4", "", "Nearest in training"), list];
  }

  function heading() {
    const tr = make("tr");
    const all = make("input");
    all.type = "checkbox";
    all.id = "all";
    all.setAttribute("aria-label", "Select all rows that the filters leave");
    all.addEventListener("change", () => {
      for (const i of shown) if (all.checked) selected.add(i); else selected.delete(i);
      draw();
    });
    tr.appendChild(make("th", "choose")).append(all);
    for (const { key, label, number } of SHOWN) {
      const th = tr.appendChild(make("th", number ? "number" : ""));
      th.scope = "col";
      if (key === null) { th.textContent = label; continue; }
      th.dataset.key = key;
      const button = th.appendChild(make("button", "", label.replace(" / ", "\u00a0/\u00a0")));
      button.type = "button";
      button.addEventListener("click", () => sort(key, sorting.key === key && !sorting.descending));
    }
    document.querySelector("#table thead").append(tr);
  }

  function draw() {
    const last = Math.max(0, Math.ceil(shown.length / perPage) - 1);
    page = Math.min(page, last);
    document.querySelector("#table tbody").replaceChildren(...shown.slice(page * perPage, (page + 1) * perPage).map(row));
    for (const th of document.querySelectorAll("#table th[data-key]")) {
      if (th.dataset.key !== sorting.key) th.removeAttribute("aria-sort");
      else th.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
    }
    $("page").textContent = shown.length
      ? `rows ${page * perPage + 1} to ${Math.min(shown.length, (page + 1) * perPage)} of ${shown.length}` : "no rows";
    $("previous").disabled = page === 0;
    $("next").disabled = page === last;
    count();
  }

  function count() {
    $("count").textContent = `${shown.length} of ${n} rows, ${selected.size} selected`;
    $("download").disabled = $("clear-selection").disabled = selected.size === 0;
    $("all").checked = shown.length > 0 && shown.every((i) => selected.has(i));
  }

  function csvField(value) {
    if (value === null) return "";
    let text = String(value);
    // A spreadsheet would take it for a formula.
    if (typeof value === "string") text = text.replace(/(^|;)(?=[=+\-@＝＋－＠])/g, "$1'");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv() {
    const rows = order.filter((i) => selected.has(i)).map((i) => data.values.map((values) => csvField(values[i])));
    return [data.columns.map(csvField), ...rows].map((fields) => fields.join(",")).join("\n") + "\n";
  }

  function download() {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "selection.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  heading();
  $("row").addEventListener("click", (event) => { if (event.target === $("row")) $("row").close(); });
  $("row").addEventListener("close", () => document.dispatchEvent(new CustomEvent("row-closed")));
  $("filters").addEventListener("input", filter);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(() => {
    elements.clear();
    for (const button of document.querySelectorAll(".ptable button")) button.setAttribute("aria-pressed", "false");
    filter();
  }));
  for (const button of document.querySelectorAll(".ptable button:not(:disabled)")) {
    button.addEventListener("click", () => {
      const { symbol } = button.dataset;
      if (!elements.delete(symbol)) elements.add(symbol);
      button.setAttribute("aria-pressed", String(elements.has(symbol)));
      filter();
    });
  }
  $("download").addEventListener("click", download);
  $("clear-selection").addEventListener("click", () => { selected.clear(); draw(); });
  $("previous").addEventListener("click", () => { page -= 1; draw(); });
  $("next").addEventListener("click", () => { page += 1; draw(); });
  let pageOnScreen = 0;
  window.addEventListener("beforeprint", () => { pageOnScreen = page; page = 0; perPage = ON_PAPER; draw(); });
  window.addEventListener("afterprint", () => { page = pageOnScreen; perPage = ON_SCREEN; draw(); });
  sort("rank", false);
})();
