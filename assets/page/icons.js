// Icons as inline SVG, drawn on a grid of 24 units with lines of the text's colour.

const PATHS = {
  search: ["M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13z", "M15.5 15.5 20 20"],
  library: ["M4 5h7v6H4z", "M13 5h7v6h-7z", "M4 13h7v6H4z", "M13 13h7v6h-7z"],
  teach: ["M12 4 2.5 9 12 14l9.5-5z", "M6 11.5V16c2 2 10 2 12 0v-4.5"],
  scan: ["M4 8V5h4", "M16 5h4v3", "M20 16v3h-4", "M8 19H4v-3", "M4 12h16"],
  tools: ["M4 7h9", "M17 7h3", "M15 5v4", "M4 17h3", "M11 17h9", "M9 15v4", "M4 12h16"],
  undo: ["M8 6 4 10l4 4", "M4 10h10a5 5 0 0 1 0 10h-3"],
  redo: ["m16 6 4 4-4 4", "M20 10H10a5 5 0 0 0 0 10h3"],
  yes: ["m5 12.5 4.5 4.5L19 7"],
  no: ["M6 6l12 12", "M18 6 6 18"],
  rename: ["M5 19h3L19 8l-3-3L5 16z"],
  similar: ["M8 5a5 5 0 1 1 0 10A5 5 0 0 1 8 5z", "M16 9a5 5 0 1 1 0 10 5 5 0 0 1 0-10z"],
  filter: ["M4 6h16l-6 7v5l-4 2v-7z"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  play: ["M8 5v14l11-7z"],
  tag: ["M4 4h8l8 8-8 8-8-8z", "M8 8h.01"],
  cut: ["M6 5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5z", "M6 14a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5z", "M8 9l12 8", "M8 15l12-8"],
  export: ["M12 4v11", "m7.5 10.5 4.5 4.5 4.5-4.5", "M5 20h14"],
  folder: ["M3 7h7l2 2h9v10H3z"],
  curve: ["M3 18c4 0 4-11 8-11s4 8 10 8"],
  zoomIn: ["M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13z", "M15.5 15.5 20 20", "M10.5 7.5v6", "M7.5 10.5h6"],
  zoomOut: ["M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13z", "M15.5 15.5 20 20", "M7.5 10.5h6"],
  start: ["M9 5H5v14h4", "M12 12h8"],
  end: ["M15 5h4v14h-4", "M12 12H4"],
  up: ["m6 14 6-6 6 6"],
  back: ["M15 5l-7 7 7 7"],
  help: ["M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18z", "M9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7", "M12 17h.01"],
  trash: ["M5 7h14", "M9 7V4h6v3", "M7 7l1 13h8l1-13"],
};
const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const data of PATHS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", data);
    svg.append(path);
  }
  return svg;
}

// Any SVG element, for charts and curves.
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
