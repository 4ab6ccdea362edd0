// The theme: light, dark, or as the system prefers.

const STORAGE_KEY = "ordersystem-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const LABELS = { system: "◐ System", light: "☀ Light", dark: "☾ Dark" };

export function initTheme(button) {
  function show(theme) {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = LABELS[theme];
    button.setAttribute("aria-label", `Theme: ${theme}. Change it`);
  }
  const stored = () => NEXT[localStorage.getItem(STORAGE_KEY)] ? localStorage.getItem(STORAGE_KEY) : "system";
  button.addEventListener("click", () => {
    localStorage.setItem(STORAGE_KEY, NEXT[stored()]);
    show(stored());
  });
  addEventListener("storage", () => show(stored()));
  show(stored());
}
