// The wallboard: nobody touches it. It asks again when something happens and every five seconds anyway, finds the
// service again after any cut, and says in large letters when what it shows is old.
"use strict";
(() => {
  const { part, live } = document.body.dataset;
  const board = document.getElementById("board"), state = document.getElementById("state");
  const EVERY_MS = 5000, LEAST_MS = 500, OLD_MS = 20000, PATIENCE_MS = 8000;
  let fresh = Date.now(), asked = 0, due = 0, socket = null, failures = 0, closed = false;

  function show() {
    const age = Date.now() - fresh;
    const old = closed || age > OLD_MS;
    document.body.classList.toggle("stale", old);
    const text = closed ? "Écran fermé : ouvrez-le de nouveau depuis Pilotage" : old
      ? `Sans nouvelles depuis ${age < 120000 ? `${Math.round(age / 1000)} s` : `${Math.round(age / 60000)} min`} : chiffres d'alors`
      : socket && socket.readyState === 1 ? "En direct" : "À jour";
    if (state.textContent !== text) state.textContent = text;
    state.dataset.state = old ? "stale" : "fresh";
  }
  async function ask() {
    due = 0;
    asked = Date.now();
    try {
      const answer = await fetch(part, { headers: { "hx-request": "true", "x-auto": "1" }, signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
      closed = answer.status === 401 || answer.status === 403;
      if (answer.ok) {
        board.innerHTML = await answer.text();
        fresh = Date.now();
      }
    } catch { /* away: said by age */ }
    show();
  }
  function soon() {
    if (!due) due = setTimeout(ask, Math.max(0, asked + LEAST_MS - Date.now()));
  }
  function listen() {
    if (socket || !live) return;
    const mine = socket = new WebSocket(location.origin.replace(/^http/, "ws") + live);
    let silent = 0;
    const quiet = () => { clearTimeout(silent); silent = setTimeout(() => mine.close(), 60000); };
    mine.onmessage = ({ data }) => {
      quiet();
      const message = JSON.parse(data);
      if (message.type === "ping") mine.send('{"type":"pong"}');
      else {
        failures = 0;
        soon();
        // what was counted a moment before the event is counted anew a second later
        if (message.type === "event" && message.event.startsWith("crisis")) setTimeout(soon, 1200);
      }
    };
    mine.onclose = () => {
      clearTimeout(silent);
      if (socket === mine) socket = null;
      setTimeout(listen, Math.min(10000, 500 * 2 ** failures++));
    };
  }
  setInterval(() => { if (Date.now() - asked >= EVERY_MS) soon(); show(); }, 1000);
  window.addEventListener("online", soon);
  listen();
  show();
})();
