// Formatting values for display: untrusted text, money and times.

// Characters that are invisible or change the direction of text: control, format, line and paragraph separators, lone surrogates, what
// Unicode lets a font leave out, and the Braille blank. Variation selector 16 only selects the coloured form of a symbol.
const HIDDEN = /(?!\ufe0f)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/gu;

const codePointOf = (character) => "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");

// Splits a text into visible parts and escapes for invisible characters.
export function splitHidden(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > from) parts.push({ text: text.slice(from, match.index) });
    parts.push({ escape: codePointOf(match[0]) });
    from = match.index + match[0].length;
  }
  if (from < text.length) parts.push({ text: text.slice(from) });
  return parts;
}

// The same as one string, for titles and labels.
export const visible = (text) => splitHidden(String(text)).map((part) => part.text ?? `<${part.escape}>`).join("");

// A message of the service as a sentence.
export function sentence(text) {
  const shown = visible(text).trim();
  return shown && shown[0].toUpperCase() + shown.slice(1) + (/[.!?…]$/.test(shown) ? "" : ".");
}

const decimals = new Map();

function decimalsOf(currency) {
  if (!decimals.has(currency)) {
    const { maximumFractionDigits } = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions();
    decimals.set(currency, maximumFractionDigits);
  }
  return decimals.get(currency);
}

// Formats a decimal with grouping and all decimals of its currency. It is never converted into a binary floating-point number.
export function money(amount, currency) {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(amount)) ?? [];
  if (whole === undefined) return `${amount} ${currency}`;
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const padded = fraction.padEnd(decimalsOf(currency), "0");
  return `${sign}${grouped}${padded && "."}${padded} ${currency}`;
}

// A decimal as a whole number of its last place, and the number of its places.
function scaled(amount) {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(amount).trim()) ?? [];
  return whole === undefined ? undefined : { units: BigInt(sign + whole + fraction), places: fraction.length };
}

// The exact total of items with a quantity and a price, as a decimal; undefined while one of them is not a number.
export function totalOf(items) {
  const prices = items.map(({ price }) => scaled(price));
  if (prices.includes(undefined) || !items.every(({ quantity }) => Number.isSafeInteger(quantity))) return undefined;
  const places = Math.max(...prices.map((price) => price.places), 0);
  const total = prices.reduce((sum, price, index) => sum + price.units * 10n ** BigInt(places - price.places) * BigInt(items[index].quantity), 0n);
  const digits = String(total).replace("-", "").padStart(places + 1, "0");
  return (total < 0n ? "-" : "") + digits.slice(0, digits.length - places) + (places ? "." + digits.slice(-places) : "");
}

export const count = (number) => Number(number).toLocaleString("en");

const UNITS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 7]];
const relativeFormat = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "long" });
const localDate = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const dateWithSeconds = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const fullDate = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

// "3 minutes ago"; the local date and time after a week.
export function relativeTime(iso, now = Date.now()) {
  let elapsed = (Date.parse(iso) - now) / 1000;
  if (Math.abs(elapsed) < 5) return "just now";
  for (const [unit, size] of UNITS) {
    if (Math.abs(elapsed) < size) return relativeFormat.format(Math.trunc(elapsed), unit);
    elapsed /= size;
  }
  return localDate.format(new Date(iso));
}

export const clock = (milliseconds) => new Date(milliseconds).toLocaleTimeString();

// The local date and time with seconds.
export const dateTime = (iso) => dateWithSeconds.format(new Date(iso));

// The exact time: in the local time zone, and as the service sent it.
export const exactTime = (iso) => `${fullDate.format(new Date(iso))} (${iso})`;

export function duration(seconds) {
  if (seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

// "4 MiB"; the exact number where it is not a whole number of units.
export function bytes(number) {
  for (const [unit, size] of [["MiB", 1 << 20], ["KiB", 1 << 10]]) if (number && number % size === 0) return `${count(number / size)} ${unit}`;
  return `${count(number)} bytes`;
}

// The fields that all events have.
const COMMON = ["type", "eventId", "orderId", "revision", "cursor", "customerId", "requestId", "actor", "onBehalfOf", "traceparent"];
export const timeOf = (event) => event.createdAt || event.paidAt || event.shippedAt || event.deliveredAt || event.cancelledAt;
export const detailsOf = (event) =>
  Object.entries(event).filter(([name]) => !COMMON.includes(name) && !name.endsWith("At"));

// "paymentMethod" as "Payment method".
export const label = (name) => {
  const words = name.replace(/([A-Z])/g, (letter) => " " + letter.toLowerCase());
  return words[0].toUpperCase() + words.slice(1);
};
