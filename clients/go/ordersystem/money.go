package ordersystem

import (
	_ "embed"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"

	"google.golang.org/genproto/googleapis/type/money"
)

const (
	nanoDigits   = 9
	nanosPerUnit = 1_000_000_000
	// The maximum number of whole digits; longer numbers are refused before they are parsed.
	mostWholeDigits = 19
)

//go:embed currencies.txt
var currencies string

// By code: the decimal digits of the minor unit, 2 for USD (cents), 0 for JPY.
var minorDigits = readCurrencies()

// A minus sign, the whole part without leading zeros, the decimals without trailing zeros.
var plainDecimal = regexp.MustCompile(`^(-?)0*([0-9]+?)(?:\.([0-9]+?)0*)?$`)

func readCurrencies() map[string]int {
	known := map[string]int{}
	for line := range strings.Lines(currencies) {
		var code string
		var digits int
		if _, err := fmt.Sscan(line, &code, &digits); err == nil {
			known[code] = digits
		}
	}
	return known
}

// ParseMoney makes an amount as the protos have it of a plain decimal number and the code of a currency: ParseMoney("19.99", "USD").
//
// It is an error if the service does not accept the currency, if the text is not a plain decimal number (-1.75), or if the amount is finer
// than the minor unit of the currency or larger than 2^63 - 1 minor units. Negative amounts are valid, although no order can have one.
func ParseMoney(amount, currency string) (*money.Money, error) {
	digits, known := minorDigits[currency]
	if !known {
		return nil, fmt.Errorf("ordersystem: %q is not the code of a currency that the service takes", currency)
	}
	parts := plainDecimal.FindStringSubmatch(amount)
	if parts == nil {
		return nil, fmt.Errorf("ordersystem: %q is not a plain decimal number", amount)
	}
	sign, whole, decimals := parts[1], parts[2], strings.TrimRight(parts[3], "0")
	if len(decimals) > digits {
		return nil, fmt.Errorf("ordersystem: %s has more decimals than the %d of %s", amount, digits, currency)
	}
	tooLarge := fmt.Errorf("ordersystem: %s %s is too large", amount, currency)
	if len(whole) > mostWholeDigits {
		return nil, tooLarge
	}
	minor, ok := new(big.Int).SetString(sign+whole+decimals+strings.Repeat("0", digits-len(decimals)), 10)
	if !ok || minor.CmpAbs(big.NewInt(math.MaxInt64)) > 0 {
		return nil, tooLarge
	}
	return moneyOfMinor(minor.Int64(), currency, digits), nil
}

// MoneyOfMinor makes an amount of whole minor units: MoneyOfMinor(1999, "USD") is 19.99 USD. It is an error if the service does not accept
// the currency.
func MoneyOfMinor(minor int64, currency string) (*money.Money, error) {
	digits, known := minorDigits[currency]
	if !known {
		return nil, fmt.Errorf("ordersystem: %q is not the code of a currency that the service takes", currency)
	}
	return moneyOfMinor(minor, currency, digits), nil
}

func moneyOfMinor(minor int64, currency string, digits int) *money.Money {
	perUnit := int64(math.Pow10(digits))
	nanos := minor % perUnit * int64(math.Pow10(nanoDigits-digits))
	return &money.Money{CurrencyCode: currency, Units: minor / perUnit, Nanos: int32(nanos)}
}

// FormatMoney shows an amount as a plain decimal number, with all decimals of the currency: 19.99. It is an error if units and nanos
// contradict each other.
func FormatMoney(amount *money.Money) (string, error) {
	units, nanos := amount.GetUnits(), int64(amount.GetNanos())
	if (units > 0 && nanos < 0) || (units < 0 && nanos > 0) || nanos <= -nanosPerUnit || nanos >= nanosPerUnit {
		return "", fmt.Errorf("ordersystem: units %d and nanos %d do not go together", units, nanos)
	}
	text := fmt.Sprint(units)
	if units == 0 && nanos < 0 {
		text = "-0"
	}
	decimals := strings.TrimRight(fmt.Sprintf("%0*d", nanoDigits, max(nanos, -nanos)), "0")
	if missing := minorDigits[amount.GetCurrencyCode()] - len(decimals); missing > 0 {
		decimals += strings.Repeat("0", missing)
	}
	if decimals == "" {
		return text, nil
	}
	return text + "." + decimals, nil
}

// MinorUnits is an amount in whole minor units of its currency: 1999 for 19.99 USD. It is an error if the amount is not one of those that
// [ParseMoney] makes.
func MinorUnits(amount *money.Money) (int64, error) {
	text, err := FormatMoney(amount)
	if err != nil {
		return 0, err
	}
	checked, err := ParseMoney(text, amount.GetCurrencyCode())
	if err != nil {
		return 0, err
	}
	digits := minorDigits[checked.GetCurrencyCode()]
	return checked.GetUnits()*int64(math.Pow10(digits)) + int64(checked.GetNanos())/int64(math.Pow10(nanoDigits-digits)), nil
}
