/** Light or dark: as the system says, until a person says otherwise. */

const KEY = "turnwire.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** @param {HTMLButtonElement} button changes to the other one */
export function followTheme(button) {
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // Storage is off: the system decides.
  }
  const show = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    const label = dark ? "Light colours" : "Dark colours";
    button.setAttribute("aria-label", label);
    button.title = label;
  };
  system.addEventListener("change", show);
  button.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme !== "dark";
    chosen = dark === system.matches ? null : dark ? "dark" : "light";
    try {
      if (chosen) localStorage.setItem(KEY, chosen);
      else localStorage.removeItem(KEY);
    } catch {
      // It holds until the next reload.
    }
    show();
  });
  show();
}
