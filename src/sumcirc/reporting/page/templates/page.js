"use strict";
// Draws charts when they come into view, and moves them by their sliders.
(() => {
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const CONFIG = { responsive: true, displayModeBar: false, displaylogo: false };
  const charts = new Map(); // by figure element

  function axis(given) {
    return {
      automargin: true, fixedrange: true, gridcolor: colour("--grid"),
      zerolinecolor: colour("--line"), linecolor: colour("--line"), ...given,
    };
  }

  function themed(layout) {
    const text = colour("--text");
    const found = {
      height: 380, autosize: true, dragmode: false, hovermode: "closest", showlegend: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 12, t: 12, b: 48 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: text } },
      ...layout,
      font: { color: text, family: "system-ui, sans-serif", size: 13 },
    };
    found.xaxis = axis(layout.xaxis);
    found.yaxis = axis(layout.yaxis);
    return found;
  }

  function traces(chart) {
    const { figure, frames, circuit } = chart.spec;
    if (circuit) return window.sumcircCircuit(circuit, chart.frame, chart.threshold, colour);
    const parts = frames.length ? frames[chart.frame] : [];
    return figure.data.map((trace, i) => ({ ...trace, ...(parts[i] || {}) }));
  }

  function draw(chart) {
    const layout = themed(chart.spec.figure.layout);
    return Plotly.react(chart.plot, traces(chart), layout, CONFIG).then(() => {
      chart.plot.dataset.drawn = String(chart.frame);
    });
  }

  function start(element) {
    if (charts.has(element)) return charts.get(element);
    const spec = JSON.parse(element.querySelector("script").textContent);
    const chart = { spec, plot: element.querySelector(".plot"), frame: 0, threshold: 0 };
    charts.set(element, chart);
    const frame = element.querySelector(".frame");
    const threshold = element.querySelector(".threshold");
    const move = () => {
      if (frame) {
        chart.frame = Number(frame.value);
        const name = frame.list.options[chart.frame].label;
        frame.setAttribute("aria-valuetext", name);
        element.querySelector(`output[for="${frame.id}"]`).textContent = name;
      }
      if (threshold) {
        chart.threshold = Number(threshold.value) / 100;
        const text = window.sumcircThreshold(spec.circuit, chart.frame, chart.threshold);
        threshold.setAttribute("aria-valuetext", text);
        element.querySelector(`output[for="${threshold.id}"]`).textContent = text;
      }
      draw(chart);
    };
    for (const input of [frame, threshold]) if (input) input.addEventListener("input", move);
    move();
    return chart;
  }

  const figures = [...document.querySelectorAll("figure.chart")];
  const seen = new IntersectionObserver(
    (entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      seen.unobserve(entry.target);
      start(entry.target);
    }),
    { rootMargin: "400px" },
  );
  figures.forEach((element) => seen.observe(element));

  const selects = [...document.querySelectorAll(".choice select")];
  function choose(select, name) {
    const variants = [...select.closest("section").querySelectorAll(":scope > .variant")];
    const chosen = variants.findIndex((variant) => variant.dataset.name === name);
    if (chosen < 0) return;
    select.value = String(chosen);
    variants.forEach((variant, i) => { variant.hidden = i !== chosen; });
  }
  selects.forEach((select) => {
    choose(select, select.options[0].label);
    // the same run everywhere
    select.addEventListener("change", () => {
      const name = select.selectedOptions[0].label;
      selects.forEach((other) => choose(other, name));
    });
  });

  const narrow = matchMedia("(max-width: 62rem)");
  const fold = () => { document.querySelector("nav details").open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();

  const redraw = () => charts.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    root.dataset.print = "";
    figures.filter((element) => element.offsetParent).forEach(start);
    redraw();
  });
  addEventListener("afterprint", () => { delete root.dataset.print; redraw(); });
})();
