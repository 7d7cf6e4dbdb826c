/**
 * Draws the diagram whose source the page sends, and answers with its height; 0 if it is invalid. It runs in a sandboxed
 * frame of an origin of its own, and its policy allows no other script and no request.
 */

const defaults = mermaid.mermaidAPI.defaultConfig;
let count = 0;

/** Returns the options. `secure` has all of them, so that a diagram's own directives change nothing. */
function options(dark) {
  return {
    startOnLoad: false,
    securityLevel: "strict",
    htmlLabels: false,
    flowchart: { htmlLabels: false },
    maxTextSize: 20_000,
    maxEdges: 150,
    suppressErrorRendering: true,
    theme: dark ? "dark" : "neutral",
    fontFamily: "system-ui, sans-serif",
    secure: [...new Set([...Object.keys(defaults), "secure", "securityLevel", "htmlLabels", "theme", "themeCSS", "themeVariables", "fontFamily", "maxTextSize", "maxEdges"])],
  };
}

function sendHeight() {
  parent.postMessage({ height: document.body.firstElementChild?.getBoundingClientRect().height ?? 0 }, "*");
}

addEventListener("message", async ({ source, data }) => {
  if (source !== parent) return;
  try {
    mermaid.initialize(options(data.dark));
    const { svg } = await mermaid.render(`diagram-${++count}`, data.source);
    document.body.innerHTML = svg;
    for (const link of document.querySelectorAll("a")) link.replaceWith(...link.childNodes);
  } catch {
    document.body.replaceChildren();
  }
  sendHeight();
});
addEventListener("resize", () => document.body.firstElementChild && sendHeight()); // its width changed
parent.postMessage("ready", "*");
