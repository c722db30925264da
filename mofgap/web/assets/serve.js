"use strict";
// The page for screening. Whatever comes from files is set as text, never as markup.
(() => {
  const POLL_MS = 800, SLOW_POLL_MS = 20_000, FIRST_ROWS = 200;
  const $ = (id) => document.getElementById(id);
  const form = $("form"), drop = $("drop");
  const { maxFiles, maxMb, keepHours } = form.dataset;
  const hint = $("chosen").textContent;
  const notes = new Set(form.dataset.notes.split(" "));
  let chosen = [];
  let id = null, upload = null, timer = null, limit = FIRST_ROWS, shownDone = -1;
  let kept = false, over = false, began = null;

  function make(tag, css, text) {
    const node = document.createElement(tag);
    if (css) node.className = css;
    if (text !== undefined) node.textContent = text;
    return node;
  }
  const many = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
  const megabytes = (n) => (n < 2 ** 20 ? `${Math.max(1, Math.round(n / 1024))} kB` : `${(n / 2 ** 20).toFixed(1)} MB`);

  function fault(words) {
    $("fault").hidden = !words;
    $("fault").textContent = words || "";
  }

  // What was chosen

  function choose(files) {
    chosen = files;
    const size = files.reduce((sum, { file }) => sum + file.size, 0);
    drop.classList.toggle("filled", files.length > 0);
    const names = files.slice(0, 3).map(({ name }) => name).join(", ");
    $("chosen").textContent = files.length
      ? `${many(files.length, "file")}, ${megabytes(size)}: ${names}${files.length > 3 ? " …" : ""}` : hint;
    const problem = files.length > Number(maxFiles)
      ? `${many(files.length, "file")} are more than ${maxFiles}: send an archive, or fewer files.`
      : size > Number(maxMb) * 2 ** 20 ? `${megabytes(size)} are more than ${maxMb} MB: send the files in parts.` : "";
    fault(problem);
    $("start").disabled = !files.length || Boolean(problem);
  }

  for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", (event) => {
      const files = [...event.target.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
      if (files.length) choose(files);
      event.target.value = "";
    });
  }

  async function filesOf(entry) {
    if (entry.isFile) {
      const file = await new Promise((done, fail) => entry.file(done, fail));
      return [{ file, name: entry.fullPath.replace(/^\//, "") }];
    }
    const reader = entry.createReader(), found = [];
    for (;;) {
      const some = await new Promise((done, fail) => reader.readEntries(done, fail));
      if (!some.length || found.length > Number(maxFiles)) return found;
      for (const each of some) if (!each.name.startsWith(".")) found.push(...await filesOf(each));
    }
  }

  let depth = 0;  // a drag leaves the zone also when it enters something in it
  const overZone = (change) => { depth = Math.max(0, depth + change); drop.classList.toggle("over", depth > 0); };
  addEventListener("dragover", (event) => event.preventDefault());  // a drop beside the zone must not leave the page
  addEventListener("drop", (event) => event.preventDefault());
  drop.addEventListener("dragenter", () => overZone(1));
  drop.addEventListener("dragleave", () => overZone(-1));
  drop.addEventListener("drop", async (event) => {
    overZone(-depth);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...event.dataTransfer.files].map((file) => ({ file, name: file.name }));
    try {
      choose(entries.length ? (await Promise.all(entries.map(filesOf))).flat() : plain);
    } catch (error) {
      fault(`What was dropped cannot be read: ${error.message}`);
    }
  });

  // The screening

  async function ask(path, options) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    const words = await answer.json().catch(() => ({}));
    const error = new Error(typeof words.detail === "string" ? words.detail : `The server answered ${answer.status}.`);
    error.status = answer.status;
    throw error;
  }

  function send(body) {
    return new Promise((done, fail) => {
      const own = upload = new XMLHttpRequest();
      own.open("POST", "/api/screenings");
      own.responseType = "json";
      own.upload.onprogress = (event) => {
        if (event.lengthComputable) state(`Uploading, ${Math.round(100 * event.loaded / event.total)} %`, event.loaded / event.total);
      };
      own.onload = () => (own.status === 202 ? done(own.response)
        : fail(new Error(own.response?.detail || `The server answered ${own.status}.`)));
      own.onerror = () => fail(new Error("The upload did not arrive: the server is gone, or refuses so much."));
      own.onabort = () => { if (own === upload) fail(new Error("The upload was stopped.")); };  // else another began
      own.send(body);
    });
  }

  function state(words, part) {
    $("state").textContent = words;
    if (part === undefined) $("progress").removeAttribute("value");
    else $("progress").value = part;
  }

  function open() {
    limit = FIRST_ROWS; shownDone = -1; kept = false; over = false; began = null;
    $("result").hidden = false;
    for (const name of ["actions", "kept", "basis", "more"]) $(name).hidden = true;
    $("rows").tHead.replaceChildren();
    $("rows").tBodies[0].replaceChildren();
    $("counts").replaceChildren();
    $("report").hidden = true;
    $("report").removeAttribute("src");
    $("downloads").hidden = false;
    $("stop").hidden = false;
    $("progress").hidden = false;
    $("start").disabled = true;
    $("keep").disabled = false;
    $("result-title").focus({ preventScroll: true });
    $("result").scrollIntoView({ block: "start" });
    show("table");
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    fault("");
    const ends = [$("low").value.trim(), $("high").value.trim()];
    if ($("low").validity.badInput || $("high").validity.badInput) return fault("Both ends of the window are numbers.");
    const body = new FormData();
    // Without an end the window is open there.
    if (ends[0] || ends[1]) body.append("window", `${ends[0] || "-inf"} ${ends[1] || "inf"}`);
    body.append("level", $("level").value);
    for (const { file, name } of chosen) body.append("files", file, name);
    const before = id === null ? upload : null, keptBefore = kept;
    leave();
    open();
    try {
      state("Uploading", 0);
      const sent = send(body);
      before?.abort();
      id = (await sent).id;
      history[keptBefore ? "pushState" : "replaceState"](null, "", location.pathname);
      await look();
    } catch (error) {
      end(error.message);
    }
  });

  function end(words, told = "Stopped") {
    clearTimeout(timer);
    over = true;
    if (words) {
      fault(words);
      if (shownDone < 0) $("result").hidden = true;
      state(told, 0);
    }
    $("stop").hidden = true;
    $("start").disabled = !chosen.length;
  }

  async function look() {
    clearTimeout(timer);
    const asked = id;
    if (asked === null) return;
    try {
      const now = await ask(`/api/screenings/${asked}`);
      if (asked !== id) return;
      if (now.state === "failed") return void end(now.error);
      if (now.done !== shownDone) {
        const table = await ask(`/api/screenings/${asked}/rows?limit=${limit}`);
        if (asked !== id) return;
        shownDone = now.done;
        draw(table);
      }
      if (now.state === "done") { if (!over) finished(now); }
      else if (now.state === "reading") state("Reading what was sent");
      else state(`${now.done.toLocaleString("en")} of ${many(now.total, "input")}${timeLeft(now)}`, now.done / now.total);
      timer = setTimeout(look, now.state === "done" ? SLOW_POLL_MS : POLL_MS);  // which says that the page is open
    } catch (error) {
      if (asked !== id) return;
      if (error.status !== 404) {
        state("No answer from the server; asking again");
        timer = setTimeout(look, SLOW_POLL_MS);
        return;
      }
      id = null;
      $("downloads").hidden = true;  // which would ask for what is no longer there
      if (!$("report").hasAttribute("src")) $("actions").hidden = true;
      end(error.message, over ? "No longer on the server" : "Stopped");
    }
  }

  function timeLeft({ done, total }) {
    began ??= performance.now();
    const seconds = (performance.now() - began) / 1000;
    if (done < 5 || seconds < 5) return "";
    const left = (seconds / done) * (total - done);
    return left < 90 ? `, ${Math.ceil(left)} s left` : `, ${Math.ceil(left / 60)} min left`;
  }

  function finished(now) {
    over = true;
    state(`${many(Object.values(now.counts).reduce((sum, n) => sum + n, 0), "structure")} screened`, 1);
    $("progress").hidden = true;
    $("stop").hidden = true;
    $("actions").hidden = false;
    $("start").disabled = !chosen.length;
    $("csv").href = `/api/screenings/${id}/table.csv`;
    $("xlsx").href = `/api/screenings/${id}/table.xlsx`;
    $("html").href = `/api/screenings/${id}/report?download=true`;
    if (now.kept) keptWords();
  }

  $("stop").addEventListener("click", () => {
    if (upload && id === null) upload.abort();
    leave();
    end("The screening was stopped, and its files were removed.");
  });

  function leave() {
    if (id !== null && !kept) fetch(`/api/screenings/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
    id = null;
    clearTimeout(timer);
  }
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  function keptWords() {
    kept = true;
    $("keep").disabled = true;
    $("kept").hidden = false;
    $("kept").textContent = `Kept for ${keepHours.replace(/\.0$/, "")} hours at this page's address: whoever has it sees the screening.`;
    history.replaceState(null, "", `#${id}`);
  }
  $("keep").addEventListener("click", async () => {
    try {
      await ask(`/api/screenings/${id}/keep`, { method: "POST" });
      keptWords();
    } catch (error) {
      fault(error.message);
    }
  });

  // Views

  const tabs = ["table", "report"];
  function show(name) {
    for (const each of tabs) {
      $(`tab-${each}`).ariaSelected = String(each === name);
      $(`tab-${each}`).tabIndex = each === name ? 0 : -1;
      $(`view-${each}`).hidden = each !== name;
    }
    if (name === "report" && !$("report").hasAttribute("src")) {
      $("report-state").textContent = "Drawing the report, which takes some seconds.";
      $("report").hidden = false;
      $("report").src = `/api/screenings/${id}/report`;
    }
  }
  $("report").addEventListener("load", () => { if ($("report").hasAttribute("src")) $("report-state").textContent = ""; });
  for (const name of tabs) {
    $(`tab-${name}`).addEventListener("click", () => show(name));
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = tabs.find((each) => each !== name);
      show(other);
      $(`tab-${other}`).focus();
    });
  }

  // The table

  const percent = (x) => `${Math.round(100 * x)} %`;

  function draw({ columns, rows, counts, skipped }) {
    const predicted = rows.filter((row) => row.status !== "failed");
    const [lo, hi] = ["gap_lo", "gap_hi"].map((start) => columns.find((name) => name.startsWith(start)));
    const end = Math.max(1, ...predicted.map((row) => row[hi] || 0));
    const has = (name) => predicted.some((row) => row[name] !== null && row[name] !== undefined);
    const heads = [["#", "number"], ["Structure"], ["Gap ± spread / eV", "gap"], [`Interval, 0 to ${end.toFixed(1)} eV`, "interval-cell"]];
    if (has("p_in_window")) heads.push(["In window", "number"]);
    if (has("pbe_gap_ev")) heads.push(["PBE gap / eV", "number"]);
    heads.push(["Formula", "formula-cell"], ["Warnings, notes, reasons"]);
    const head = make("tr");
    for (const [text, css] of heads) {
      const cell = make("th", css, text);
      cell.scope = "col";
      head.append(cell);
    }
    const context = { lo, hi, end, p: has("p_in_window"), pbe: has("pbe_gap_ev"), nColumns: heads.length };
    $("rows").tHead.replaceChildren(head);
    const [body] = $("rows").tBodies;
    const lines = (css) => [...body.querySelectorAll(css)].map((each) => each.closest("tr").dataset.key);
    const open = new Set(lines("details[open]")), [focused] = lines("summary:focus");
    body.replaceChildren(...rows.map((row) => line(row, context)));
    for (const tr of body.rows) {
      if (open.has(tr.dataset.key)) tr.querySelector("details").open = true;
      if (tr.dataset.key === focused) tr.querySelector("summary").focus({ preventScroll: true });
    }
    const tags = [["ok", "ok"], ["warning", "with warnings"], ["failed", "failed"]];
    $("counts").replaceChildren(...tags.filter(([key]) => counts[key]).map(([key, words]) =>
      make("span", `tag ${key}`, `${counts[key].toLocaleString("en")} ${words}`)));
    if (skipped) $("counts").append(make("span", "skipped", skipped));
    const total = counts.ok + counts.warning + counts.failed;
    $("more").hidden = total <= rows.length;
    $("more").textContent = `Show all ${total.toLocaleString("en")} rows`;
    const level = predicted.length ? predicted[0].level_of_theory : "";
    $("basis").hidden = !level;
    $("basis").textContent = `Gaps as ${level} would give them. Intervals are about that calculation: do not quote gaps as measured.`;
  }

  $("more").addEventListener("click", () => { limit = 1e6; shownDone = -1; look(); });

  function line(row, { lo, hi, end, p, pbe, nColumns }) {
    const failed = row.status === "failed";
    const tr = make("tr", row.status);
    tr.dataset.key = `${row.file}\n${row.structure_id}`;
    tr.append(make("td", "number", failed ? "–" : String(row.rank)));
    const structure = make("td", "structure", row.structure_id);
    if (row.file !== `${row.structure_id}.cif`) structure.append(make("small", "", row.file));
    tr.append(structure);
    if (failed) {
      const cell = make("td", "why", row.reason);
      cell.prepend(make("span", "tag failed", "failed"), " ");
      cell.colSpan = nColumns - 2;
      tr.append(cell);
      return tr;
    }
    const gap = make("td", "gap");
    gap.append(make("b", "", row.gap_ev.toFixed(2)), row.gap_std_ev === null ? "" : ` ± ${row.gap_std_ev.toFixed(2)}`);
    const cell = make("td", "interval-cell");
    if (row[lo] !== null) cell.append(interval(row, lo, hi, end));
    tr.append(gap, cell);
    if (p) tr.append(make("td", "number", percent(row.p_in_window)));
    if (pbe) tr.append(make("td", "number", row.pbe_gap_ev?.toFixed(2)));
    tr.append(formula(row.formula), why(row));
    return tr;
  }

  function interval(row, lo, hi, end) {
    const place = (x) => 100 * Math.min(1, Math.max(0, x / end));
    const box = make("div", "interval");
    const part = (css, left, right) => {
      const node = make("i", css);
      node.style.left = `${place(left)}%`;
      if (right !== undefined) node.style.width = `${place(right) - place(left)}%`;
      box.append(node);
    };
    if (row.p_in_window !== null) part("inside", row.window_lo_ev ?? 0, row.window_hi_ev ?? end);
    part("line", row[lo], row[hi]);
    part("dot", row.gap_ev);
    box.title = `${row[lo].toFixed(2)} to ${row[hi].toFixed(2)} eV`;
    return box;
  }

  function formula(text) {
    const cell = make("td", "formula-cell");
    for (const part of text.split(/(\d+)/)) cell.append(/^\d/.test(part) ? make("sub", "", part) : part);
    return cell;
  }

  function why(row) {
    const cell = make("td", "why");
    const words = row.warnings ? row.warnings.split(" | ") : [];
    if (!words.length) return cell;
    const details = make("details"), summary = make("summary"), list = make("ul");
    const named = (each) => each.split(":")[0];
    const warnings = words.filter((each) => !notes.has(named(each)));
    for (const each of warnings) summary.append(make("span", "chip", named(each)));
    const nNotes = words.length - warnings.length;
    if (nNotes) summary.append(make("span", "chip note", nNotes === 1 ? words.map(named).find((name) => notes.has(name)) : many(nNotes, "note")));
    list.append(...words.map((each) => make("li", "", each)));
    details.append(summary, list);
    cell.append(details);
    return cell;
  }

  const another = () => location.hash !== `#${id}` && ((kept && !location.hash) || /^#[\w-]{24}$/.test(location.hash));
  addEventListener("hashchange", () => { if (another()) location.reload(); });
  if (another()) {
    open();
    id = location.hash.slice(1); kept = true;
    state("Fetching the screening"); look();
  }
})();
