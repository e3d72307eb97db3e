// Keeps the page up to date. The server makes all of its text and escapes it.
"use strict";
(() => {
  const main = document.getElementById("main");
  const state = document.getElementById("state");
  const source = new EventSource(main.dataset.live);
  const inUse = () => main.contains(document.activeElement) || String(document.getSelection()) !== "";
  source.addEventListener("message", (event) => {
    state.textContent = "Live.";
    // A reader keeps the place at which the focus is, and the text that is selected.
    if (inUse()) return;
    const open = [...main.querySelectorAll("details")].map((each) => each.open);
    main.innerHTML = event.data;
    main.querySelectorAll("details").forEach((each, n) => { each.open = Boolean(open[n]); });
  });
  source.addEventListener("end", () => {
    source.close();
    state.textContent = "The session has ended: load the page again.";
  });
  source.addEventListener("error", () => {
    state.textContent = source.readyState === EventSource.CLOSED
      ? "Not live: load the page again to see what has changed."
      : "The gateway does not answer; it is tried again.";
  });
})();
