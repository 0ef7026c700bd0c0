// The practice's pages: rows and their keys, windows, sound, countdowns, what one was doing when the board is renewed.
"use strict";
(() => {
  const body = document.body;
  const board = document.getElementById("board");

  // -- small things of every page ---------------------------------------------------------------------------------
  for (const field of document.querySelectorAll("[data-submit]")) {
    field.form.querySelector("button").hidden = true;
    field.addEventListener("change", () => field.form.requestSubmit());
  }
  body.addEventListener("sas-told", (event) => window.sas.tell(event.detail.text, "good"));
  body.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) document.getElementById(opener.dataset.opens).showModal();
    const closer = event.target.closest("[data-close]");
    if (closer) closer.closest("dialog").close();
  });
  // a form that stays on the page acts anew each time
  body.addEventListener("htmx:afterRequest", ({ detail }) => {
    const form = detail.elt.closest("form");
    if (!form || !detail.successful) return;
    if (form.dataset.closes) document.getElementById(form.dataset.closes).close();
    const once = form.querySelector('input[name="once"]');
    const fresh = detail.xhr.getResponseHeader("x-once");
    if (once && fresh && !form.closest("#board")) once.value = fresh;
  });

  const file = document.getElementById("csv-file");
  if (file) {
    const shown = document.getElementById("csv-preview");
    let table = null;
    const send = async (preview) => {
      const csrf = document.querySelector('meta[name="csrf"]').content;
      shown.setAttribute("aria-busy", "true");
      try {
        const answer = await fetch(file.dataset.to + (file.dataset.to.includes("?") ? "&" : "?") + `apercu=${preview ? 1 : 0}`, {
          method: "POST", body: table, headers: { "x-csrf": csrf, "hx-request": "true", "content-type": "text/csv" },
        });
        // what was shown stays, so that it can be done again
        if (answer.status === 401) return window.sas.ended();
        if (answer.status === 204) { location.assign(answer.headers.get("hx-redirect")); return; }
        const text = await answer.text();
        // parsed as a document of its own: nothing in it runs here
        const parsed = new DOMParser().parseFromString(text, "text/html");
        shown.replaceChildren(...parsed.body.childNodes);
        shown.focus();
      } catch {
        window.sas.tell("Le service ne répond pas, ou le fichier a changé. Rien n'est écrit : choisissez-le de nouveau.", "bad");
      } finally { shown.removeAttribute("aria-busy"); }
    };
    file.addEventListener("change", () => {
      if (!file.files.length) return;
      table = file.files[0];
      // the same file, once it is mended, is a choice again
      file.value = "";
      send(true);
    });
    shown.addEventListener("click", (event) => { if (event.target.closest("[data-csv-take]")) send(false); });
  }
  if (!board) return;

  // -- rows: one is chosen, keys act on it ------------------------------------------------------------------------
  const rows = () => [...board.querySelectorAll("[data-row]")];
  // When the chosen row is gone, by an act or by itself, another is chosen that nobody has read yet: a key that was
  // meant for the first one (a second, impatient press; a press just begun) must not answer for it. About what it takes
  // to see the change and to stop a finger (guess).
  const READ_MS = 700;
  let chosen = "", deaf = 0;
  function choose(row, focus) {
    for (const other of board.querySelectorAll('[data-row][aria-current]')) other.removeAttribute("aria-current");
    if (!row) { chosen = ""; return; }
    chosen = row.id;
    row.setAttribute("aria-current", "true");
    if (focus) row.focus();
  }
  const actionable = (row) => row.querySelector("[data-key]");
  function again() {
    const all = rows();
    const same = all.find((row) => row.id === chosen), gone = chosen && !same;
    if (gone) deaf = Date.now() + READ_MS;
    choose(same || all.find(actionable) || all[0], false);
    // whoever looked at the one that is gone sees the one that the keys are for now
    if (gone && seen && chosen) document.getElementById(chosen).scrollIntoView({ block: "nearest" });
  }
  function inSight(row) {
    const { top, bottom } = row.getBoundingClientRect();
    return bottom > 0 && top < window.innerHeight;
  }
  board.addEventListener("focusin", (event) => {
    const row = event.target.closest("[data-row]");
    if (row && row.id !== chosen) { deaf = 0; choose(row, false); }
  });
  function step(by) {
    const all = rows();
    const at = all.findIndex((row) => row.id === chosen);
    const next = all[Math.max(0, Math.min(all.length - 1, at + by))];
    choose(next, true);
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (typing || event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented || event.repeat) return;
    const key = event.key.toLowerCase();
    const open = document.querySelector("dialog[open]");
    const where = open || document.getElementById(chosen);
    let target = where && where.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!open) {
      if (key === "j" || key === "k") { event.preventDefault(); return step(key === "j" ? 1 : -1); }
      if (key === "a") {
        const count = document.getElementById("q-count");
        if (count) { event.preventDefault(); count.focus(); count.select(); }
        return;
      }
      if (target && Date.now() < deaf) return event.preventDefault();
      target = target || document.querySelector(`[data-page-key="${CSS.escape(key)}"]`);
    }
    if (target) { event.preventDefault(); target.click(); }
  });

  // -- refusing: a window outside the board, so that renewing it takes nothing away ---------------------------------
  const refuse = document.getElementById("refuse");
  board.addEventListener("click", (event) => {
    const button = event.target.closest("[data-refuse]");
    if (!button) return;
    refuse.querySelector('[name="booking"]').value = button.dataset.refuse;
    refuse.querySelector('[name="once"]').value = button.dataset.once;
    // who refuses one patient of a plage does not mean the others
    refuse.querySelector('[name="keep"]').checked = "plage" in button.dataset;
    document.getElementById("refuse-what").textContent = button.dataset.what;
    refuse.showModal();
  });

  // -- renewing the board -----------------------------------------------------------------------------------------
  let seen = false;
  body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const row = document.getElementById(chosen);
    if (detail.target === board) seen = Boolean(row) && inSight(row);
  });
  body.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target !== board) return;
    again();
    count();
    news();
  });

  // -- what is new: said, and rung when asked to --------------------------------------------------------------------
  const said = document.getElementById("arrivals");
  let known = new Set();
  const marks = () => new Map(rows().map((row) => [row.dataset.mark || row.id, row]));
  function news() {
    const now = marks();
    const fresh = [...now].filter(([id, row]) => !known.has(id) && (row.matches(".new, .asked *")));
    known = new Set(now.keys());
    if (!fresh.length) return;
    said.textContent = fresh.map(([, row]) => row.dataset.says).join(", ");
    ring();
  }
  const sound = document.getElementById("sound");
  let heard = null;
  const wanted = () => { try { return localStorage.getItem("sas-sound") === "on"; } catch { return false; } };
  function showSound() {
    sound.setAttribute("aria-pressed", String(wanted()));
    sound.firstElementChild.textContent = wanted() ? "Son actif" : "Son coupé";
  }
  sound.addEventListener("click", () => {
    try { localStorage.setItem("sas-sound", wanted() ? "off" : "on"); } catch { /* private window: stays silent */ }
    showSound();
    ring();
  });
  function ring() {
    if (!wanted()) return;
    heard = heard || new AudioContext();
    const begin = heard.currentTime;
    for (const [number, pitch] of [660, 880].entries()) {
      const tone = heard.createOscillator();
      const loud = heard.createGain();
      tone.frequency.value = pitch;
      loud.gain.setValueAtTime(0.12, begin + number * 0.16);
      loud.gain.exponentialRampToValueAtTime(0.001, begin + number * 0.16 + 0.15);
      tone.connect(loud).connect(heard.destination);
      tone.start(begin + number * 0.16);
      tone.stop(begin + number * 0.16 + 0.16);
    }
    board.dataset.rung = String(Number(board.dataset.rung || 0) + 1);
  }

  // -- countdowns -------------------------------------------------------------------------------------------------
  function count() {
    for (const one of board.querySelectorAll("[data-until]")) {
      // by the service's clock: that of an old PC may be wrong
      if (!one.dataset.ahead) one.dataset.ahead = Date.parse(one.dataset.now) - Date.now();
      const left = Math.round((Date.parse(one.dataset.until) - Date.now() - Number(one.dataset.ahead)) / 1000);
      one.classList.toggle("soon", left < 60);
      one.textContent = left <= 0 ? "délai passé"
        : left < 3600 ? `${Math.floor(left / 60)} min ${String(left % 60).padStart(2, "0")} s` : `${Math.floor(left / 3600)} h ${String(Math.floor(left / 60) % 60).padStart(2, "0")}`;
    }
  }
  setInterval(count, 1000);
  // what no event tells (a regulator looks at a place, an hour begins) is asked for now and then
  setInterval(() => { if (!document.hidden) window.sas.say("sas-tick"); }, 20000);

  showSound();
  again();
  count();
  known = new Set(marks().keys());
})();
