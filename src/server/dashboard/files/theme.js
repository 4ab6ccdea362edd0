// The theme: light, dark, or as the system prefers. The page is not painted before this module has run, so that it does not flash in another theme.

const STORAGE_KEY = "ordersystem-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const ICONS = { system: "◐", light: "☀", dark: "☾" };
const NAMES = { system: "System", light: "Light", dark: "Dark" };

const stored = () => NEXT[localStorage.getItem(STORAGE_KEY)] ? localStorage.getItem(STORAGE_KEY) : "system";

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function initTheme(button) {
  function show(theme) {
    apply(theme);
    button.querySelector(".icon").textContent = ICONS[theme];
    button.querySelector(".name").textContent = NAMES[theme];
    button.setAttribute("aria-label", `Theme: ${theme}. Change it`);
    button.title = `Theme: ${theme}`;
  }
  button.addEventListener("click", () => {
    localStorage.setItem(STORAGE_KEY, NEXT[stored()]);
    show(stored());
  });
  addEventListener("storage", () => show(stored()));
  show(stored());
}

apply(stored());
