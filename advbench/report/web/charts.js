// Charts: one Vega-Lite specification each, drawn as SVG and coloured by the style sheet; the legend is made of buttons.
(() => {
  const GLYPHS = {
    circle: "\u25cf", square: "\u25a0", cross: "\u271a", diamond: "\u25c6",
    "triangle-up": "\u25b2", "triangle-down": "\u25bc", "triangle-right": "\u25b6", "triangle-left": "\u25c0",
  };
  const scaleOf = (view, name) => { try { return view.scale(name); } catch { return null; } };

  function legend(box, view) {
    const colour = view.scale("color"), shape = scaleOf(view, "shape"), hidden = new Set();
    for (const group of colour.domain()) {
      const button = document.createElement("button"), mark = document.createElement("span");
      button.type = "button";
      mark.textContent = GLYPHS[shape ? shape(group) : "circle"];
      mark.style.color = colour(group);
      mark.setAttribute("aria-hidden", "true");
      button.append(mark, String(group));
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = hidden.has(group);
        if (shown) hidden.delete(group); else hidden.add(group);
        button.setAttribute("aria-pressed", String(shown));
        view.signal("hidden", [...hidden]).runAsync();
      });
      box.append(button);
    }
  }

  const fluid = (spec) => typeof spec.width === "number" && { width: "container", autosize: { type: "fit-x", contains: "padding" } };

  // Panels side by side share the width, and stand below each other where it is narrow.
  function panels(spec, width) {
    const { facet } = spec, beside = facet.column ?? null, field = (beside ?? facet.row).field;
    const labels = 220; // of the rows' names, or of the y axis
    if (!beside) return { spec: { ...spec.spec, width: Math.max(width - labels, 120) } };
    const data = spec.data ?? spec.spec.data ?? spec.spec.layer[0].data;
    const groups = new Set((data.values ?? spec.datasets[data.name]).map((row) => row[field])).size;
    const columns = width < 600 ? 1 : groups;
    return { facet: { ...beside, columns: undefined }, columns, spec: { ...spec.spec, width: Math.max((width - 60) / columns - 20, 120) } };
  }

  const { specs } = JSON.parse(document.getElementById("data").textContent);
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const spec = specs[figure.dataset.chart];
    const filters = (spec.params ?? []).some((param) => param.name === "hidden");
    const plot = figure.querySelector(".plot"), width = plot.clientWidth;
    const own = { ...spec, background: "transparent", ...(spec.facet ? panels(spec, width) : fluid(spec)) };
    const config = { legend: filters ? { disable: true } : { orient: "bottom", columns: width < 600 ? 1 : 2, labelLimit: 300 } };
    vegaEmbed(plot, own, { actions: false, renderer: "svg", config }).then(({ view }) => {
      plot.querySelector("svg").setAttribute("aria-hidden", "true"); // what is read out is the label of the plot
      if (filters) legend(figure.querySelector(".legend"), view);
    });
    if (!filters) figure.querySelector(".legend").remove();
  }
})();
