// Keeps the page up to date: it asks for the same address again, and changes only what differs.
// So text that you type, what you have opened, and the focus stay.  Without it the page works, too.
"use strict";
(() => {
  const PAUSE = 1000, LONGEST = 5000, PATIENCE = 15000; // milliseconds
  let mark = "", failures = 0, timer = 0, request = null;

  const ids = (node) => new Set(Array.from(node.children, (each) => each.id).filter(Boolean));

  function morph(from, to) {
    for (const { name } of [...from.attributes])
      if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS"))
        from.removeAttribute(name);
    for (const { name, value } of to.attributes)
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    const wanted = ids(to), known = ids(from);
    let place = from.firstChild;
    const drop = () => {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    };
    for (const node of [...to.childNodes]) {
      while (place && place.id && !wanted.has(place.id)) drop();
      if (node.id && known.has(node.id)) while (place && place.id !== node.id) drop();
      const same = place && place.nodeName === node.nodeName && (place.id || "") === (node.id || "");
      if (!same) from.insertBefore(document.importNode(node, true), place);
      else {
        if (node.nodeType !== Node.ELEMENT_NODE) {
          if (place.data !== node.data) place.data = node.data;
        } else if (!place.isEqualNode(node)) morph(place, node);
        place = place.nextSibling;
      }
    }
    while (place) drop();
  }

  function take(answer) {
    const line = document.getElementById("offline");
    if (answer.status === 304) {
      failures = 0;
      if (!line.hidden) line.hidden = true;
      return;
    }
    const page = answer.response; // not of a 304: it would be parsed as XML
    if (answer.status === 200 && page) {
      failures = 0;
      mark = answer.getResponseHeader("ETag") || "";
      morph(document.body, document.importNode(page.body, true));
      document.title = page.title;
      return;
    }
    const problem = page && page.querySelector(".problem");
    const text = problem ? problem.textContent : "The page's server does not answer.";
    failures += 1;
    line.textContent = `${text} This is what was known before. Trying again.`;
    line.hidden = false;
  }

  function load(then) {
    clearTimeout(timer);
    const old = request;
    request = null; // so that nobody takes its end for an answer
    if (old) old.abort();
    const asked = (request = new XMLHttpRequest()), began = performance.now();
    asked.open("GET", location.pathname + location.search);
    asked.responseType = "document";
    asked.timeout = PATIENCE;
    if (mark) asked.setRequestHeader("If-None-Match", mark);
    asked.onloadend = () => {
      if (request !== asked) return; // another one was sent
      request = null;
      take(asked);
      if (then) then();
      // A page that takes long to make or to show is asked for less often.
      const took = performance.now() - began;
      timer = setTimeout(poll, Math.min(LONGEST, Math.max(PAUSE * (1 + failures), 4 * took)));
    };
    asked.send();
  }

  function poll() {
    if (!document.hidden) load();
  }

  function show() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target) target.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-soft]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.getAttribute("href"));
    load(show);
  });
  addEventListener("popstate", () => load(show));
  document.addEventListener("visibilitychange", poll);
  timer = setTimeout(poll, PAUSE);
})();
