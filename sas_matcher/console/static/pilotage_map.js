// The map of communes: areas and figures of the same origin, drawn on a canvas; no tiles, nothing from elsewhere.
"use strict";
(() => {
  const box = document.getElementById("map");
  const said = document.getElementById("map-said");
  const legend = document.getElementById("legend");
  const measure = document.getElementById("measure");
  const NAMES = { unmet: "sans place", met_pct: "servies (%)", asked: "demandes closes", offered: "places offertes" };
  const map = L.map(box, { preferCanvas: true, attributionControl: false, zoomSnap: 0.25, scrollWheelZoom: false });
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const areas = new Map();
  let rows = new Map();

  const words = (value) => (value === null || value === undefined ? "moins de 5, ou non dit" : String(value).replace(".", ","));
  function steps(values, key) {
    if (key === "met_pct") return [50, 75, 90, 97];
    const most = Math.max(1, ...values);
    // fewer patients than five are hidden, places are not
    const least = key === "offered" ? 1 : 5;
    // a few communes have most of everything: steps double
    return [most / 16, most / 8, most / 4, most / 2].map((v) => Math.max(least, Math.round(v))).filter((v, n, all) => all.indexOf(v) === n);
  }
  function draw() {
    const key = measure.value;
    const values = [...rows.values()].map((row) => row[key]).filter((value) => value !== null && value !== undefined);
    const edges = steps(values, key);
    const shade = (value) => {
      if (value === null || value === undefined) return "map-hidden";
      if (!value && key !== "met_pct") return "map-none";
      const rank = edges.filter((edge) => value >= edge).length;
      // little served is as bad as much missed
      return `map-${key === "met_pct" ? edges.length - rank : rank}`;
    };
    const line = colour("line"), ink = colour("ink");
    for (const [insee, area] of areas) {
      const row = rows.get(insee);
      const value = row ? row[key] : key === "met_pct" ? null : 0;
      area.setStyle({ color: line, weight: 1, fillColor: colour(row ? shade(value) : "map-none"), fillOpacity: 1 });
      area.off("mouseover mouseout click");
      area.on("mouseover click", () => {
        area.setStyle({ color: ink, weight: 2 });
        area.bringToFront();
        said.textContent = row
          ? `${row.label} : ${NAMES[key]} ${words(value)} ; closes ${words(row.asked)}, sans place ${words(row.unmet)}, places offertes ${words(row.offered)}`
          : "Aucune demande ni place dans cette commune.";
      });
      area.on("mouseout", () => area.setStyle({ color: line, weight: 1 }));
    }
    legend.replaceChildren();
    const entry = (name, text) => {
      const item = document.createElement("li"), swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = colour(name);
      item.append(swatch, ` ${text}`);
      legend.append(item);
    };
    entry("map-none", "aucune");
    entry("map-hidden", "moins de 5");
    // counts have no class below the least that is shown
    const below = key === "met_pct" || edges[0] > (key === "offered" ? 1 : 5) ? [`moins de ${edges[0]}`] : [""];
    const parts = [...below, ...edges.map((edge, n) => (n + 1 < edges.length ? (edges[n + 1] - 1 > edge && key !== "met_pct" ? `${edge} à ${edges[n + 1] - 1}` : key === "met_pct" ? `${edge} à ${edges[n + 1]}` : `${edge}`) : `${edge} et plus`))];
    parts.forEach((text, n) => text && entry(`map-${key === "met_pct" ? edges.length - n : n}`, text));
  }

  async function ask(address) {
    const answer = await fetch(address, { headers: { "hx-request": "true" } });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }
  Promise.all([ask(box.dataset.zones), ask(box.dataset.rows)]).then(([zones, found]) => {
    rows = new Map(found.map((row) => [row.insee, row]));
    for (const { insee, ring } of zones) areas.set(insee, L.polygon(ring).addTo(map));
    const all = L.featureGroup([...areas.values()]);
    map.fitBounds(all.getBounds(), { padding: [8, 8], animate: false });
    draw();
    box.dataset.drawn = "yes";
  }).catch(() => { said.textContent = "La carte ne peut pas être dessinée ; le tableau donne les mêmes nombres."; });
  measure.addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
