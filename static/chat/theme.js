/** The light or dark theme: the system's, until the user chooses the other one. */

const KEY = "turnwire.theme";
const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** Applies the theme. @param {HTMLButtonElement} button switches to the other theme */
export function initTheme(button) {
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // Storage is disabled: the system's theme is used.
  }
  const apply = () => {
    const dark = chosen ? chosen === "dark" : systemDark.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    const label = dark ? "Use light theme" : "Use dark theme";
    button.setAttribute("aria-label", label);
    button.title = label;
  };
  systemDark.addEventListener("change", apply);
  button.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme !== "dark";
    chosen = dark === systemDark.matches ? null : dark ? "dark" : "light";
    try {
      if (chosen) localStorage.setItem(KEY, chosen);
      else localStorage.removeItem(KEY);
    } catch {
      // Storage is disabled: the choice lasts until a reload.
    }
    apply();
  });
  apply();
}
