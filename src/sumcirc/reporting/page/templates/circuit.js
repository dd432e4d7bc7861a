"use strict";
// A circuit as traces: edges by sign and width, points to hover on, nodes. Edges come largest first.
(() => {
  const WIDTHS = [4.5, 2.6, 1.4, 0.7];
  const LIMITS = [0.5, 0.2, 0.07, 0]; // least share of the largest |score| for each width
  const INPUTS = ["", " (query)", " (key)", " (value)"];
  const ASIDE = [0, -1, 0, 1]; // where an edge arrives: query left, value right

  function shown(circuit, frame, threshold) {
    const edges = circuit.frames[frame];
    const least = threshold * threshold * (edges.length ? Math.abs(edges[0][3]) : 0);
    return { least, edges: edges.filter((edge) => Math.abs(edge[3]) >= least) };
  }

  // where an edge passes: a curve upward; along one column it bulges, so that lines don't hide
  function curve(circuit, [source, destination, into]) {
    const [, x, y] = circuit.nodes[source];
    const [, endX, endY] = circuit.nodes[destination];
    const goalX = endX + ASIDE[into] * circuit.aside, rise = endY - y;
    const side = (Math.round(2 * y) + Math.round(rise)) % 2 ? 1 : -1;
    const bulge = Math.abs(goalX - x) < 0.5 && rise > 1.01 ? side * Math.min(0.12 + 0.2 * rise, 2.6) : 0;
    return (t) => {
      const u = 1 - t, a = u * u * u, b = 3 * u * u * t, c = 3 * u * t * t, d = t * t * t;
      return [
        a * x + b * (x + bulge) + c * (goalX + bulge) + d * goalX,
        a * y + b * (y + 0.45 * rise) + c * (endY - 0.45 * rise) + d * endY,
      ];
    };
  }

  function lines(circuit, edges, largest, sign, width) {
    const x = [], y = [];
    for (const edge of edges) {
      const share = Math.abs(edge[3]) / largest;
      const bin = LIMITS.findIndex((limit) => share >= limit);
      if (bin !== width || Math.sign(edge[3] || 1) !== sign) continue;
      const at = curve(circuit, edge);
      for (let i = 0; i <= 12; i += 1) { const [px, py] = at(i / 12); x.push(px); y.push(py); }
      x.push(null); y.push(null);
    }
    return {
      type: "scatter", mode: "lines", x, y, hoverinfo: "skip", opacity: 0.8,
      line: { color: sign > 0 ? "#D55E00" : "#3C8FD0", width: WIDTHS[width] },
    };
  }

  window.sumcircThreshold = (circuit, frame, threshold) => {
    const { least, edges } = shown(circuit, frame, threshold);
    if (!least) return `none: all ${edges.length} edges`;
    return `|score| ≥ ${least.toPrecision(2)}: ${edges.length} of ${circuit.frames[frame].length} edges`;
  };

  window.sumcircCircuit = (circuit, frame, threshold, colour) => {
    const { edges } = shown(circuit, frame, threshold);
    const largest = edges.length ? Math.abs(edges[0][3]) || 1 : 1;
    const made = [];
    for (const sign of [-1, 1]) {
      for (let width = 3; width >= 0; width -= 1) made.push(lines(circuit, edges, largest, sign, width));
    }
    const inside = new Set(edges.flatMap(([source, destination]) => [source, destination]));
    const hover = { x: [], y: [], text: [] };
    for (const edge of edges) {
      const at = curve(circuit, edge);
      const names = `${circuit.nodes[edge[0]][0]} → ${circuit.nodes[edge[1]][0]}${INPUTS[edge[2]]}`;
      for (const t of [0.35, 0.5, 0.65]) {
        const [x, y] = at(t);
        hover.x.push(x); hover.y.push(y); hover.text.push(`${names}: ${edge[3].toPrecision(3)}`);
      }
    }
    made.push({
      type: "scatter", mode: "markers", ...hover, marker: { size: 10, opacity: 0 },
      hovertemplate: "%{text}<extra></extra>",
    });
    const places = circuit.nodes.map(([name, x, y], i) => ({ name, x, y, inside: inside.has(i) }));
    for (const within of [false, true]) {
      const some = places.filter((place) => place.inside === within);
      made.push({
        type: "scatter", x: some.map((place) => place.x), y: some.map((place) => place.y),
        mode: within ? "markers+text" : "markers",
        text: some.map((place) => place.name.split(".").pop()),
        customdata: some.map((place) => place.name),
        hovertemplate: `%{customdata}${within ? "" : ", not in the circuit"}<extra></extra>`,
        textfont: { size: 10, color: colour("--text") },
        marker: {
          size: some.map((place) => (within ? (place.name.split(".").pop().length > 3 ? 34 : 24) : 5)), color: colour(within ? "--panel" : "--line"),
          line: { width: within ? 1 : 0, color: colour("--soft") },
        },
      });
    }
    return made;
  };
})();
