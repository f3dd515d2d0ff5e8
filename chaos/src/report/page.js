"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const numbers = JSON.parse(byId("numbers").textContent);
  const picture = byId("timeline"), cursor = byId("cursor"), tip = byId("tip");

  const copy = byId("copy");
  if (navigator.clipboard) {
    copy.hidden = false;
    copy.onclick = () => navigator.clipboard.writeText(byId("command").textContent).then(() => { copy.textContent = "Copied"; });
  }

  // Milliseconds under the pointer, or null outside of the plots.
  const at = (event) => {
    const box = picture.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * numbers.width;
    const part = (x - numbers.left) / (numbers.width - numbers.left - numbers.right);
    return part < 0 || part > 1 ? null : { x, ms: part * numbers.end_ms };
  };
  const time = (ms) => ms === null ? "–" : ms >= 1000 ? (ms / 1000).toFixed(2) + " s" : ms.toFixed(1) + " ms";
  const row = (table, cells) => {
    const line = table.insertRow();
    cells.forEach((text) => { line.insertCell().textContent = text; });
  };

  picture.addEventListener("pointermove", (event) => {
    const here = at(event);
    cursor.style.visibility = here ? "visible" : "hidden";
    tip.hidden = !here;
    if (!here) return;
    cursor.setAttribute("x1", here.x);
    cursor.setAttribute("x2", here.x);
    tip.replaceChildren();
    const during = ([from, to]) => from <= here.ms && here.ms <= to;
    const faults = numbers.faults.filter(during).map((fault) => fault[2]);
    const title = document.createElement("b");
    title.textContent = (here.ms / 1000).toFixed(2) + " s" + (faults.length ? ": " + faults.join(", ") : "");
    const masters = document.createElement("table"), kinds = document.createElement("table");
    numbers.masters.forEach((states, index) => {
      const state = states.find(during);
      row(masters, [numbers.names[index], state ? state[2] : "not looked at"]);
    });
    row(kinds, ["", "median", "slowest", "answered", "unknown"]);
    const column = Math.min(Math.floor(here.ms / numbers.column_ms), numbers.series[0]?.p50.length - 1);
    numbers.series.forEach((series) => row(kinds, [
      series.kind, time(series.p50[column]), time(series.max[column]), series.answered[column], series.unknown[column],
    ]));
    tip.append(title, masters, kinds);
    const right = event.clientX + 20 + tip.offsetWidth > innerWidth;
    tip.style.left = (right ? event.clientX - 20 - tip.offsetWidth : event.clientX + 20) + "px";
    tip.style.top = Math.max(8, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 8)) + "px";
  });
  picture.addEventListener("pointerleave", () => { tip.hidden = true; cursor.style.visibility = "hidden"; });

  // A click leads to the nearest line of the logs.
  picture.addEventListener("click", (event) => {
    const here = at(event);
    if (!here || event.target.closest("a")) return;
    let nearest = null, least = Infinity;
    document.querySelectorAll("tr[data-t]").forEach((line) => {
      const away = Math.abs(line.dataset.t - here.ms);
      if (away < least) [nearest, least] = [line, away];
    });
    if (!nearest) return;
    document.querySelectorAll("tr.here").forEach((line) => line.classList.remove("here"));
    nearest.classList.add("here");
    const details = nearest.closest("details");
    if (details) details.open = true;
    nearest.scrollIntoView({ block: "center" });
  });
  document.documentElement.dataset.script = "ready";
})();
