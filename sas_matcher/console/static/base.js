// What every page needs: the session's secret on each call, notices, the live feed, the window of an ended session.
"use strict";
(() => {
  const body = document.body;
  // the secret of the session; kept in the page for other scripts, which read it anew each time
  const secret = document.querySelector('meta[name="csrf"]');
  const notice = document.getElementById("notice");
  const again = document.getElementById("again");

  // -- calls ------------------------------------------------------------------------------------------------------
  body.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["x-csrf"] = secret.content;
    const why = event.detail.triggeringEvent;
    // what the page asks by itself keeps no session alive
    if (why && why.type.startsWith("sas-")) event.detail.headers["x-auto"] = "1";
  });
  body.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (xhr.status < 400) return;
    // an error goes where notices are, unless its answer says otherwise; what was on the page stays
    if (xhr.getResponseHeader("HX-Retarget")) event.detail.shouldSwap = true;
    else {
      place();
      event.detail.target = notice;
    }
    event.detail.swapOverride = "innerHTML";
  });
  body.addEventListener("htmx:responseError", (event) => {
    if (event.detail.xhr.status === 401 && !event.detail.pathInfo.requestPath.startsWith("/connexion")) ended();
  });
  body.addEventListener("htmx:sendError", () => tell("Le service ne répond pas. Rien n'est perdu : réessayez.", "bad"));
  body.addEventListener("htmx:beforeRequest", (event) => {
    // an action answers anew; what is only looked up leaves the last answer where it is
    if (event.detail.requestConfig.verb === "post" && !event.detail.elt.dataset.lookup) notice.replaceChildren();
  });

  // -- what a person does, and parts that renew themselves (data-renews) -------------------------------------------
  // An act waits for no renewal, and none undoes it on the page: what was asked for before an act began or ended may
  // show the state before it, and would take away the form that waits for its answer. It is left, and asked for again
  // when no act is under way.
  let turns = 0, acting = 0, left = false;
  body.addEventListener("htmx:beforeSend", ({ detail: { xhr, requestConfig, elt } }) => {
    if (requestConfig.verb === "post" && !elt.dataset.lookup) {
      turns++;
      acting++;
      // of the call itself: its form may be gone from the page by then, and no longer be heard
      xhr.addEventListener("loadend", () => { turns++; acting--; renew(); });
    }
    requestConfig.turns = turns;
  });
  body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.target.dataset.renews === undefined) return;
    const act = detail.requestConfig.verb === "post";
    if (detail.requestConfig.turns === turns && !(acting && !act)) {
      kept = remember(detail.target, act ? detail.requestConfig.elt.closest("form") : null);
      return;
    }
    detail.shouldSwap = false;
    left = true;
    // after htmx has ended this call
    setTimeout(renew);
  });
  function renew() {
    if (!left || acting) return;
    left = false;
    say("sas-refresh");
  }

  // What a person has done in a part stays when it is renewed: fields that were touched and details that were opened
  // (by their id), the focus. The others are as the service says now, and so is the form whose act is answered.
  const CONTROLS = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
  const named = (control) => control.getAttribute("aria-label") || control.textContent;
  let kept = null;
  const ticked = (field) => field.type === "checkbox" || field.type === "radio";
  function touched(field) {
    if (ticked(field)) return field.checked !== field.defaultChecked;
    if (!field.options) return field.value !== field.defaultValue;
    return field.selectedIndex !== Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
  }
  function remember(part, answered) {
    const focus = part.contains(document.activeElement) ? document.activeElement : null, owner = focus && focus.closest("[id]");
    const fields = [...part.querySelectorAll("input[id]:not([type=hidden]), select[id], textarea[id]")];
    return {
      part,
      fields: fields.filter((field) => touched(field) && !(answered && field.form === answered))
        .map((field) => ({ id: field.id, value: field.value, checked: field.checked })),
      opened: [...part.querySelectorAll("details[id][open]")].map((one) => one.id),
      focus: owner && part.contains(owner) && { owner: owner.id, at: [...owner.querySelectorAll(CONTROLS)].indexOf(focus), says: named(focus) },
      typing: focus && focus.selectionStart !== undefined && focus.selectionStart !== null && [focus.selectionStart, focus.selectionEnd],
    };
  }
  body.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (!kept || detail.target !== kept.part) return;
    const { part, fields, opened, focus, typing } = kept;
    kept = null;
    const found = (id) => { const one = document.getElementById(id); return one && part.contains(one) ? one : null; };
    for (const { id, value, checked } of fields) {
      const field = found(id);
      if (!field) continue;
      if (ticked(field)) field.checked = checked;
      else if (!field.options || [...field.options].some((option) => option.value === value)) field.value = value;
    }
    for (const id of opened) { const one = found(id); if (one) one.open = true; }
    const owner = focus && found(focus.owner);
    const control = owner && (focus.at < 0 ? owner : owner.querySelectorAll(CONTROLS)[focus.at]);
    // another one in its place is not meant
    if (!control || (focus.at >= 0 && named(control) !== focus.says)) return;
    control.focus({ preventScroll: true });
    if (typing && control.setSelectionRange) control.setSelectionRange(...typing);
  });

  // -- notices ----------------------------------------------------------------------------------------------------
  // Behind an open window nobody sees or hears what is told: it is told in the window, and stays on the page after it.
  const notices = notice.parentElement;
  function place() {
    // the window of an ended session comes last on the page, and over all others
    const where = [...document.querySelectorAll("dialog[open]")].at(-1) || body;
    if (notices.parentElement !== where) where.append(notices);
  }
  document.addEventListener("close", place, true);
  function line(text, kind) {
    const made = document.createElement("p");
    made.className = `note ${kind}`;
    made.textContent = text;
    place();
    return made;
  }
  // what answers an act goes with the next one
  function tell(text, kind = "") {
    notice.replaceChildren(line(text, kind));
  }
  // What came by itself stays for two minutes, or until it is closed; the last four of it (both: guesses, of what is
  // read between two calls and leaves the page in sight).
  const NEWS_MS = 120000, NEWS_MOST = 4;
  const news = document.getElementById("news");
  function inform(text, kind = "") {
    const one = line(text, kind);
    const close = document.createElement("button");
    close.type = "button";
    close.className = "quiet small";
    close.setAttribute("aria-label", "Fermer");
    close.textContent = "✕";
    close.addEventListener("click", () => one.remove());
    one.append(close);
    news.append(one);
    while (news.children.length > NEWS_MOST) news.firstElementChild.remove();
    setTimeout(() => one.remove(), NEWS_MS);
  }

  // -- the window of an ended session -----------------------------------------------------------------------------
  function ended() {
    if (!again || again.open) return;
    again.showModal();
    document.getElementById("again-password").focus();
  }
  body.addEventListener("sas-signed-in", ({ detail }) => {
    // what is on this page is not theirs
    if (detail.login !== login) return location.assign("/");
    go(detail.secret);
    if (tabs) tabs.postMessage({ secret: secret.content, login });
    tell("Vous êtes de nouveau connecté.", "good");
  });
  function go(fresh) {
    secret.content = fresh;
    for (const field of document.querySelectorAll('input[name="csrf"]')) field.value = fresh;
    document.getElementById("again-password").value = "";
    document.getElementById("door-error").replaceChildren();
    if (again.open) again.close();
    listen();
  }
  // All tabs have one cookie: whoever signs in in one of them has given the others a session whose secret they need.
  const login = again && document.getElementById("again-login").defaultValue;
  const tabs = again && window.BroadcastChannel && new BroadcastChannel("sas-session");
  if (tabs) {
    let other = "";
    tabs.onmessage = ({ data }) => {
      if (data.login !== login && data.secret !== other) inform("Une autre personne s'est connectée dans ce navigateur : rechargez la page.", "warn");
      other = data.login === login ? "" : data.secret;
      if (!other && (data.secret !== secret.content || again.open)) go(data.secret);
    };
    tabs.postMessage({ secret: secret.content, login });
  }

  // The second click of a double click is none: what the first one did may be over, and another thing be in its place
  // or the form be ready for its next act. Nor is a key that is held.
  document.addEventListener("click", (event) => {
    const button = event.detail > 1 && event.target.closest("button");
    if (button && button.type === "submit" && (button.form || button).matches("[hx-post]")) event.preventDefault();
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.repeat && event.target.matches("input, select, button")) event.preventDefault();
  });
  document.addEventListener("submit", (event) => {
    const asked = event.submitter && event.submitter.dataset.confirm;
    if (asked && !window.confirm(asked)) event.preventDefault();
  });

  // -- the live feed ----------------------------------------------------------------------------------------------
  // Every event of the service is an event of the body: "sas-request" (with its document), "sas-booking", …; parts of
  // a page ask for themselves again when they hear it (hx-trigger="sas-request from:body, sas-refresh from:body").
  // When the feed begins, and after each cut, all of them hear "sas-refresh": the ledger knows what happened meanwhile.
  const PAUSES = [200, 500, 1000, 2000, 5000];
  const sign = document.getElementById("live");
  let socket = null, failures = 0, silent = 0, timer = 0;
  function show(on) {
    if (!sign) return;
    const text = on ? "En direct" : "Hors ligne";
    if (sign.dataset.state === (on ? "on" : "off")) return;
    sign.dataset.state = on ? "on" : "off";
    sign.textContent = text;
  }
  function say(name, detail = {}) {
    body.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
  }
  function quiet() {
    clearTimeout(silent);
    // the service pings every 20 s: after three of them nobody is there
    silent = setTimeout(() => socket && socket.close(), 60000);
  }
  function listen() {
    if (!body.dataset.live || socket) return;
    clearTimeout(timer);
    const as = secret.content;
    const mine = socket = new WebSocket(body.dataset.live.replace(/^/, location.origin.replace(/^http/, "ws")));
    mine.onmessage = ({ data }) => {
      quiet();
      const message = JSON.parse(data);
      if (message.type === "ping") mine.send('{"type":"pong"}');
      else if (message.type === "welcome") {
        failures = 0;
        show(true);
        // also the first time: something may have happened between the page and its feed
        say("sas-refresh");
      } else if (message.type === "gap") say("sas-refresh");
      else if (message.type === "event") {
        say(`sas-${message.event.split(".")[0]}`, { name: message.event, id: message.aggregate, data: message.data });
      }
    };
    mine.onclose = ({ code }) => {
      if (socket === mine) socket = null;
      clearTimeout(silent);
      show(false);
      // of the session before this one: a new one is there
      if (code === 4401 && as !== secret.content) return listen();
      if (code === 4401) return ended();
      timer = setTimeout(listen, PAUSES[Math.min(failures++, PAUSES.length - 1)]);
    };
  }
  window.addEventListener("online", () => { failures = 0; if (socket) socket.close(); else listen(); });
  window.addEventListener("offline", () => { if (socket) socket.close(); show(false); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !socket) { failures = 0; listen(); } });
  window.sas = { tell, news: inform, say, ended };
  listen();
})();
