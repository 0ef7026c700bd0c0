// The regulation page: countdown, keys, what changes elsewhere, the map. Truth stays on the service: every change asks
// for its part of the page again.
"use strict";
(() => {
  const body = document.body;
  const answer = document.getElementById("answer");
  const phrase = document.getElementById("phrase");
  const offer = document.getElementById("offer");
  const told = document.getElementById("told");
  const shown = () => answer.querySelector("[data-id]");

  // -- what comes in ----------------------------------------------------------------------------------------------
  // Of a person's calls the last one is answered here; what it overtook is in the list. What the page asks by itself puts
  // back neither what a person has left meanwhile nor an older state.
  let turn = 0;
  // whoever goes on to the line, or types, is not called away from it by what comes late
  let typed = 0, edited = 0, rewritten = false;
  const need = document.getElementById("ask");
  need.addEventListener("input", () => { typed++; edited++; });
  phrase.addEventListener("focus", () => typed++);
  let looked = 0;
  body.addEventListener("htmx:beforeRequest", ({ detail: { target, requestConfig } }) => {
    const why = requestConfig.triggeringEvent;
    if (target === answer && why && !why.type.startsWith("sas-")) Object.assign(requestConfig, { turn: ++turn, typed, edited });
  });
  body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const { xhr, target, requestConfig } = detail;
    if (target !== answer) return;
    const [id, version] = (xhr.getResponseHeader("X-Shown") || "").split(" ");
    if (requestConfig.turn) {
      rewritten = requestConfig.edited !== edited;
      if (requestConfig.turn === turn) return;
      detail.shouldSwap = false;
      overtaken(id, requestConfig);
      return;
    }
    const now = shown();
    const asked = requestConfig.path.split("/").pop();
    if (now && now.dataset.id === asked && !(id && Number(version) < Number(now.dataset.version))) return;
    detail.shouldSwap = false;
    // it would have brought the list
    list();
  });
  function overtaken(id, { path, verb, parameters }) {
    // what was asked for is asked: its file's number is not the next patient's
    const number = document.getElementById("case-ref");
    if (verb === "post" && path === "/regulation/demandes" && number && number.value === parameters.case_ref) document.getElementById("file").replaceChildren();
    if (id) fresh.add(id);
    sas.tell("Une réponse est arrivée entre-temps : elle est dans « Mes demandes ».");
    list();
  }
  // Keys do not act on what nobody can have read yet: while an answer is on its way, and for a moment after it came.
  // Keyboards repeat themselves, and people press twice.
  const READ_MS = 700; // from a look at a place to a key, guess: below the second that somebody needs to say it
  let pending = 0, settling = 0, state = "";
  body.addEventListener("htmx:beforeSend", ({ detail: { xhr, requestConfig } }) => {
    const mine = requestConfig.turn;
    if (!mine) return;
    pending = mine;
    answer.setAttribute("aria-busy", "true");
    xhr.addEventListener("loadend", () => {
      if (pending !== mine) return;
      pending = 0;
      answer.removeAttribute("aria-busy");
    });
  });
  function settle(always) {
    const now = shown(), before = state;
    state = now ? `${now.dataset.id} ${now.dataset.version} ${now.className}` : "";
    if (!always && state === before) return;
    answer.classList.add("settling");
    clearTimeout(settling);
    settling = setTimeout(() => answer.classList.remove("settling"), READ_MS);
  }
  const unread = () => Boolean(pending) || answer.classList.contains("settling");
  body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === answer) {
      const { requestConfig } = event.detail;
      const stayed = requestConfig.typed === typed;
      // somebody may be reading it to a patient
      if (offer.open && requestConfig.turn) offer.close();
      settle(requestConfig.turn);
      if (requestConfig.turn) look();
      tick();
      map();
      const title = document.getElementById("shown-title");
      // only what a person asked for moves the focus, and not away from what he types since
      if (requestConfig.turn && title) {
        if (stayed) title.focus({ preventScroll: window.innerWidth > 832 });
        else told.textContent = title.textContent;
      }
      // an event that overtook this answer is on the page with the next one
      const now = shown();
      if (now && (latest.get(now.dataset.id)?.version > Number(now.dataset.version) || asking.get(now.dataset.id) > requestConfig.heard)) refresh(now.dataset.id);
    }
    // the list, which comes with each answer, may be of before something happened
    if (event.detail.target === answer || event.detail.target.id === "list") {
      overtook(event.detail.requestConfig.heard);
      midnight();
    }
    if (event.detail.target.id === "offer-body" && !offer.open && looked === typed) {
      offer.showModal();
      document.getElementById("offer-title").focus();
    }
  });

  // -- the line ---------------------------------------------------------------------------------------------------
  // What is read last counts. Sent, a line needs no reading any more: the answer says how it was understood, unless the
  // next line is being typed by then.
  let sent = null;
  body.addEventListener("htmx:beforeRequest", (event) => {
    const { elt, xhr } = event.detail;
    if (elt.id === "ask") {
      htmx.trigger(phrase, "htmx:abort");
      sent = { xhr, line: phrase.value };
      xhr.addEventListener("loadend", () => { if (sent?.xhr === xhr) sent = null; });
    } else if (elt === phrase && sent && sent.line === phrase.value) event.preventDefault();
  });
  body.addEventListener("htmx:oobBeforeSwap", ({ detail }) => {
    if (detail.target.id !== "fields") return;
    if (rewritten) detail.shouldSwap = false;
    else byHand.clear();
  });
  // what was set by hand since the line changed counts, also where its reading comes later
  const byHand = new Set();
  let kept = null;
  need.addEventListener("input", ({ target }) => target === phrase ? byHand.clear() : byHand.add(target.name));
  body.addEventListener("htmx:configRequest", ({ detail }) => {
    if (detail.elt === need && byHand.size) detail.parameters.by_hand = [...byHand];
  });
  body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.target.id === "fields") kept = new FormData(need);
  });
  body.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target.id !== "fields") return;
    for (const field of need.elements) {
      if (!byHand.has(field.name)) continue;
      if (field.type === "checkbox") field.checked = kept.getAll(field.name).includes(field.value);
      else field.value = kept.get(field.name);
    }
  });

  // -- what others do ---------------------------------------------------------------------------------------------
  const NEWS = {
    "request.held": "Place trouvée",
    "request.told": "Promesse tenue, lieu et heure à dire au patient",
    "request.displaced": "Promesse rompue par la crise, patient à rappeler",
    "request.reopened": "Place perdue ou refusée par le cabinet, la recherche reprend",
    "request.lapsed": "Garde terminée sans confirmation",
    "request.unserved": "Échéance passée sans place",
    "request.handed": "Demande confiée par un collègue",
  };
  const waiting = new Map();
  function soon(name, work) {
    if (waiting.has(name)) return;
    waiting.set(name, setTimeout(() => { waiting.delete(name); work(); }, 25));
  }
  function ask(path, target) {
    // each part has a queue of its own: in that of the page the last call would push out the others
    htmx.ajax("GET", path, { source: target, target, swap: "innerHTML", event: new CustomEvent("sas-refresh"), headers: { "x-auto": "1" } });
  }
  function refresh(id) {
    const now = shown();
    if (now && (id === undefined || id === now.dataset.id)) soon("answer", () => shown() && ask(`/regulation/demandes/${shown().dataset.id}`, "#answer"));
    else list();
  }
  function list() {
    soon("list", () => ask(`/regulation/demandes${shown() ? `?vue=${shown().dataset.id}` : ""}`, "#list"));
  }
  const latest = new Map();
  let heard = 0;
  body.addEventListener("htmx:beforeSend", ({ detail }) => { detail.requestConfig.heard = heard; });
  // what is asked en sus changes no version
  const asking = new Map();
  function overtook(since) {
    for (const at of asking.values()) if (at > since) return list();
    for (const [id, { version, at }] of latest) {
      const row = document.getElementById(`row-${id}`);
      if (at > since && !(row && Number(row.dataset.version) >= version)) return list();
    }
  }
  body.addEventListener("sas-request", ({ detail }) => {
    latest.set(detail.id, { version: detail.data.version, at: ++heard });
    const now = shown();
    const mine = now && now.dataset.id === detail.id;
    // what this page did itself is on it already
    if (mine && detail.data.version <= Number(now.dataset.version)) return;
    const row = document.getElementById(`row-${detail.id}`);
    const about = row ? row.dataset.about : mine ? now.dataset.about : "";
    if (NEWS[detail.name] && (row || mine || detail.name === "request.handed")) {
      const text = `${NEWS[detail.name]}${about ? ` : ${about}` : ""}.`;
      told.textContent = text;
      if (!mine || detail.name !== "request.held") sas.news(text, detail.name === "request.held" || detail.name === "request.told" ? "good" : "warn");
    }
    fresh.add(detail.id);
    refresh(detail.id);
  });
  body.addEventListener("sas-asking", ({ detail }) => {
    const id = detail.id.replace("asking:", "");
    asking.set(id, ++heard);
    refresh(id);
  });
  body.addEventListener("sas-refresh", () => { refresh(); if (shown()) soon("list", () => 0); });
  // whom nobody found a place for is to be called back: first in the list until somebody has looked, in this tab
  const SEEN = "sas-unserved-seen";
  const seen = new Set(remembered());
  function remembered() {
    try {
      return JSON.parse(sessionStorage.getItem(SEEN) || "[]");
    } catch {
      return []; // a browser that keeps nothing
    }
  }
  function look() {
    const now = shown();
    if (!now || !now.classList.contains("is-unserved") || seen.has(now.dataset.id)) return;
    seen.add(now.dataset.id);
    try {
      sessionStorage.setItem(SEEN, JSON.stringify([...seen].slice(-200)));
    } catch { /* until the page is left */ }
  }
  const fresh = new Set();
  body.addEventListener("htmx:oobAfterSwap", mark);
  body.addEventListener("htmx:afterSwap", ({ detail }) => detail.target.id === "list" && mark());
  function mark() {
    const now = shown();
    for (const row of document.querySelectorAll(".row")) {
      if (now && row.id === `row-${now.dataset.id}`) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    for (const id of seen) {
      const row = document.getElementById(`row-${id}`);
      if (row && row !== document.activeElement) row.closest("ul").append(row.closest("li"));
    }
    for (const id of fresh) {
      const row = document.getElementById(`row-${id}`);
      if (!row) continue;
      row.classList.add("fresh");
      setTimeout(() => { row.classList.remove("fresh"); fresh.delete(id); }, 4000);
    }
  }

  // -- the day ----------------------------------------------------------------------------------------------------
  let night = 0;
  function midnight() {
    clearTimeout(night);
    const { now, midnight } = document.getElementById("day")?.dataset || {};
    if (midnight) night = setTimeout(refresh, Date.parse(midnight) - Date.parse(now) + 1000);
  }

  // -- the countdown ----------------------------------------------------------------------------------------------
  let clock = 0, spoken = "";
  function tick() {
    clearTimeout(clock);
    const timer = answer.querySelector(".countdown");
    if (!timer) return;
    // by the service's clock: that of an old PC may be wrong
    if (!timer.dataset.ahead) timer.dataset.ahead = Date.parse(timer.dataset.now) - Date.now();
    const left = Math.ceil((Date.parse(timer.dataset.until) - Date.now() - Number(timer.dataset.ahead)) / 1000);
    const text = timer.querySelector("strong");
    if (left <= 0) {
      text.textContent = "0:00";
      timer.classList.add("over");
      // the service says what became of it
      const now = shown();
      if (now) ask(`/regulation/demandes/${now.dataset.id}`, "#answer");
      return;
    }
    text.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    timer.classList.toggle("soon", left <= 30);
    const say = left <= 15 ? "15 secondes" : left <= 60 ? "une minute" : "";
    if (say && say !== spoken) told.textContent = `Place gardée encore ${say}.`;
    spoken = say;
    clock = setTimeout(tick, 250);
  }

  // -- keys -------------------------------------------------------------------------------------------------------
  // Function keys only: they mean nothing to what is typed, to the browsers (F1, F3, F5 to F7, F10 to F12 do) or to
  // screen readers.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !/^F[2489]$/.test(event.key)) return;
    if (document.getElementById("again").open) return;
    event.preventDefault();
    if (event.key === "F9") {
      if (offer.open) offer.close();
      next();
      typed++;
      phrase.focus();
      phrase.select();
      return;
    }
    if (offer.open) return;
    const key = (event.shiftKey ? "Shift+" : "") + event.key;
    const button = document.querySelector(`[data-key="${key}"]`);
    if (button && !button.disabled && !(unread() && button.closest("#answer form"))) button.click();
  });
  // what a regulator's software said of its patient is not the next one's
  function next() {
    const file = document.getElementById("file");
    const number = file.querySelector("#case-ref");
    if (number && number.value) sas.tell(`Demande suivante : le dossier ${number.value} n'y est plus.`);
    file.replaceChildren();
  }
  document.addEventListener("click", (event) => {
    // of a double click the second half acts on what came in between
    if (event.detail > 1 && event.target.closest("#answer form button")) event.preventDefault();
  }, true);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.commune) {
      document.getElementById("commune").value = button.dataset.commune;
      byHand.add("commune");
      phrase.focus();
    }
    if (button.id === "see-offer") {
      const now = shown();
      const form = new FormData(need);
      const values = Object.fromEntries([...form.keys()].map((name) => [name, form.getAll(name)]));
      if (byHand.size) values.by_hand = [...byHand];
      delete values.once;
      if (now) values.request_id = now.dataset.id;
      looked = typed;
      htmx.ajax("POST", "/regulation/offre", { source: "#offer-body", target: "#offer-body", swap: "innerHTML", values });
    }
    if (button.dataset.copy) copy(document.querySelector(button.dataset.copy));
  });
  async function copy(area) {
    try {
      await navigator.clipboard.writeText(area.value);
    } catch {
      // no clipboard without https: select it, for Ctrl+C
      area.closest("details").open = true;
      area.focus();
      area.select();
      sas.tell("Texte sélectionné : Ctrl + C pour le copier.");
      return;
    }
    sas.tell("Copié.", "good");
  }

  // -- the map ----------------------------------------------------------------------------------------------------
  let drawn = null, loading = null;
  function leaflet() {
    const desk = document.querySelector("[data-leaflet]");
    loading ||= new Promise((done, failed) => {
      const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: desk.dataset.leafletCss });
      const script = Object.assign(document.createElement("script"), { src: desk.dataset.leaflet, onload: done, onerror: failed });
      document.head.append(style, script);
    });
    return loading;
  }
  const outlines = new Map(), nothing = { rings: [], towns: [] };
  async function outline(code) {
    if (!outlines.has(code)) outlines.set(code, fetch(`/static/geo/${code}.json`).then((answer) => (answer.ok ? answer.json() : nothing)).catch(() => nothing));
    return outlines.get(code);
  }
  async function map() {
    if (drawn) { drawn.remove(); drawn = null; }
    const place = document.getElementById("map");
    if (!place) return;
    const data = JSON.parse(place.dataset.map);
    await leaflet();
    const land = await outline(data.territory);
    if (!place.isConnected || drawn) return;
    const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    drawn = L.map(place, { attributionControl: false, keyboard: false, preferCanvas: true, zoomAnimation: !still, fadeAnimation: !still, zoomControl: false, scrollWheelZoom: false });
    const points = [data.here, ...data.places.map((found) => found.at)];
    drawn.fitBounds(L.latLngBounds(points).pad(0.25), { maxZoom: 11, animate: false });
    for (const ring of land.rings) L.polygon(ring, { color: ink("--edge"), weight: 1.5, fillColor: ink("--card"), fillOpacity: 1, interactive: false }).addTo(drawn);
    // labels where there is room: the place's, then the others', then towns
    const taken = [drawn.latLngToContainerPoint(data.here)];
    const room = (at, wide, high) => {
      const here = drawn.latLngToContainerPoint(at);
      if (taken.some((other) => Math.abs(other.x - here.x) < wide && Math.abs(other.y - here.y) < high)) return false;
      taken.push(here);
      return true;
    };
    const label = (mark, text, className) => mark.bindTooltip(text, { permanent: true, direction: "right", offset: [6, 0], className });
    for (const found of [...data.places].sort((one, other) => other.chosen - one.chosen)) {
      const colour = ink(found.chosen ? "--good" : "--edge");
      L.polyline([data.here, found.at], { color: colour, weight: found.chosen ? 3 : 1.5, dashArray: found.chosen ? null : "4 4", interactive: false }).addTo(drawn);
      const mark = L.circleMarker(found.at, { radius: found.chosen ? 8 : 5, color: ink("--card"), weight: 2, fillColor: colour, fillOpacity: 1, interactive: false });
      if (found.chosen || room(found.at, 70, 22)) label(mark, `${found.travel} min`, "");
      if (found.chosen) taken.push(drawn.latLngToContainerPoint(found.at));
      mark.addTo(drawn);
    }
    const seen = drawn.getBounds();
    for (const [lat, lon, name] of land.towns) {
      if (!seen.contains([lat, lon]) || !room([lat, lon], 110, 26)) continue;
      label(L.circleMarker([lat, lon], { radius: 2.5, stroke: false, fillColor: ink("--soft"), fillOpacity: 1, interactive: false }), name, "town").addTo(drawn);
    }
    L.circleMarker(data.here, { radius: 7, color: ink("--ink"), weight: 3, fillColor: ink("--card"), fillOpacity: 1, interactive: false }).addTo(drawn);
  }
  tick();
  mark();
  midnight();
})();
