// Pilotage: figures are asked for again at most once a second, and now and then anyway (ages grow without any event).
"use strict";
(() => {
  const body = document.body;
  const LEAST_MS = 1000, ANYWAY_MS = 10000;
  let last = 0, due = 0;
  function renew() {
    due = 0;
    last = Date.now();
    window.sas.say("sas-figures");
  }
  function soon() {
    if (!due) due = setTimeout(renew, Math.max(0, last + LEAST_MS - Date.now()));
  }
  for (const name of ["request", "booking", "refresh"]) body.addEventListener(`sas-${name}`, soon);
  // levels and settings are shown at once, and again when what was counted a moment before is counted anew
  for (const name of ["settings", "crisis", "ladder"]) {
    body.addEventListener(`sas-${name}`, () => { renew(); setTimeout(renew, LEAST_MS + 200); });
  }
  setInterval(() => { if (!document.hidden) soon(); }, ANYWAY_MS);

  // what is being worked out elsewhere is looked at while it goes on
  setInterval(() => { if (!document.hidden && document.querySelector("[data-watch]")) window.sas.say("sas-watch"); }, 1500);

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-print]")) window.print();
  });
  // a choice of territory or days needs no further click; without script the button is there
  for (const form of document.querySelectorAll("form.choose")) {
    form.addEventListener("change", () => form.requestSubmit());
  }
})();
