"use strict";
// The slider and the switch of a report: each change draws anew what depends on it. Texts go in as text nodes only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const slider = document.getElementById("k");
  const now = { k: data.chosen, split: data.split };
  const config = {
    displayModeBar: "hover", displaylogo: false, responsive: true,
    modeBarButtons: [["toImage"]],
  };

  const made = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  // What an element shows: its name, and what it depends on, e.g. "levels" by "split k" is "levels.test.2".
  const nameOf = (element, name) =>
    [name, ...element.dataset.by.split(" ").filter(part => part in now).map(part => now[part])].join(".");
  const depends = (element, changed) =>
    changed.some(part => element.dataset.by.split(" ").includes(part === "k" ? "k" : part))
    || (changed.includes("k") && element.dataset.by.includes("mark"));
  const each = (attribute, changed, draw) => {
    for (const element of document.querySelectorAll(`[data-${attribute}]`))
      if (!changed || depends(element, changed)) draw(element, nameOf(element, element.dataset[attribute]));
  };

  const drawFigure = (element, name) => {
    if (!element.offsetParent) return; // in a closed <details>; drawn when it opens
    const theme = dark.matches ? "dark" : "light";
    const figure = data.figures[theme][name];
    if (!figure) return;
    const mark = element.dataset.by.includes("mark") ? data.marks[theme][`${name}.${now.k}`] : {};
    const copy = structuredClone({ data: figure.data, layout: { ...figure.layout, ...mark } });
    const image = { format: "svg", filename: name };
    Plotly.react(element, copy.data, copy.layout, { ...config, toImageButtonOptions: image });
  };
  const drawTable = (element, name) => {
    const found = data.tables[name];
    if (!found || !element.offsetParent) return;
    const table = made("table"), head = made("tr"), body = made("tbody");
    const kind = i => (found.numeric[i] ? "number" : "");
    found.head.forEach((text, i) => {
      const cell = made("th", text, kind(i));
      cell.scope = "col";
      head.append(cell);
    });
    for (const row of found.rows) {
      const line = made("tr");
      row.forEach((text, i) => line.append(made("td", text, kind(i))));
      body.append(line);
    }
    const top = made("thead");
    top.append(head);
    table.append(top, body);
    element.replaceChildren(found.rows.length ? table : made("p", "None."));
  };
  const drawNumbers = (element, name) => {
    element.replaceChildren(...(data.numbers[name] || []).map(number => {
      const card = made("div", undefined, "card"), parts = made("div", undefined, "parts");
      for (const part of number.parts) {
        const box = made("div");
        box.append(
          made("span", part.label, "label"), made("span", part.value, "value"), made("span", part.interval, "interval"));
        parts.append(box);
      }
      card.append(made("h3", number.name), parts, made("p", number.sentence, "small"));
      return card;
    }));
  };
  const drawList = (element, name) => {
    const list = made("ul");
    for (const point of data.lists[name] || []) {
      const line = made("li");
      line.append(...point.map(([text, bold]) => (bold ? made("strong", text) : text)));
      list.append(line);
    }
    element.replaceChildren(list);
  };

  const draw = changed => {
    each("numbers", changed, drawNumbers);
    each("list", changed, drawList);
    each("table", changed, drawTable);
    each("figure", changed, drawFigure);
    if (!slider) return; // the report of a study has none
    const label = data.labels[now.k];
    document.getElementById("k-now").textContent = `k = ${label}`;
    slider.setAttribute("aria-valuetext", `k = ${label}`);
    for (const element of document.querySelectorAll("[data-now]")) element.textContent = `k = ${label}`;
    document.getElementById("split-words").textContent = data.words[now.split];
  };

  if (slider) {
    slider.max = data.labels.length - 1;
    slider.value = now.k;
    data.labels.forEach((label, i) => {
      const option = made("option");
      option.value = i;
      document.getElementById("ks").append(option);
      document.getElementById("k-names").append(made("span", label));
    });
    slider.addEventListener("input", () => { now.k = Number(slider.value); draw(["k"]); });
    for (const radio of document.querySelectorAll("[name=split]")) {
      radio.checked = radio.value === now.split;
      radio.addEventListener("change", () => { now.split = radio.value; draw(["split"]); });
    }
  }
  for (const details of document.querySelectorAll("details"))
    details.addEventListener("toggle", () => details.open && draw());
  dark.addEventListener("change", () => draw());
  draw();
})();
