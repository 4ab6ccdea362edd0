package tests

import (
	"strconv"
	"testing"

	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/protobuf/proto"

	"github.com/catga/ordersystem/clients/go/ordersystem"
)

type moneyCase struct {
	Amount, Currency, Units, Shown string
	Nanos                          int32
}

func (c moneyCase) parts(t *testing.T) *money.Money {
	units, err := strconv.ParseInt(c.Units, 10, 64)
	check(t, err)
	return &money.Money{CurrencyCode: c.Currency, Units: units, Nanos: c.Nanos}
}

// TestMoney runs the cases that every client runs; clients/conformance/README.md says what each list means.
func TestMoney(t *testing.T) {
	var cases struct{ Exact, Refused, Shown, Malformed []moneyCase }
	load(t, scenarios+"/money/cases.yaml", &cases)
	if len(cases.Exact) < 10 || len(cases.Refused) < 10 || len(cases.Shown) < 5 || len(cases.Malformed) < 4 {
		t.Fatal(cases)
	}
	for _, c := range cases.Exact {
		made, err := ordersystem.ParseMoney(c.Amount, c.Currency)
		if err != nil || !proto.Equal(made, c.parts(t)) {
			t.Errorf("%s %s became %v, %v", c.Amount, c.Currency, made, err)
		}
		if c.Shown == "" {
			c.Shown = c.Amount
		}
		if shown, err := ordersystem.FormatMoney(made); err != nil || shown != c.Shown {
			t.Errorf("%v is shown as %s, %v", made, shown, err)
		}
		minor, err := ordersystem.MinorUnits(made)
		check(t, err)
		if again, err := ordersystem.MoneyOfMinor(minor, c.Currency); err != nil || !proto.Equal(again, made) {
			t.Errorf("%d minor units became %v, %v", minor, again, err)
		}
	}
	for _, c := range cases.Refused {
		if made, err := ordersystem.ParseMoney(c.Amount, c.Currency); err == nil {
			t.Errorf("%q %q became %v", c.Amount, c.Currency, made)
		}
	}
	for _, c := range cases.Shown {
		if shown, err := ordersystem.FormatMoney(c.parts(t)); err != nil || shown != c.Shown {
			t.Errorf("%v is shown as %s, %v", c, shown, err)
		}
		if minor, err := ordersystem.MinorUnits(c.parts(t)); err == nil {
			t.Errorf("%v has %d minor units", c, minor)
		}
	}
	for _, c := range cases.Malformed {
		if shown, err := ordersystem.FormatMoney(c.parts(t)); err == nil {
			t.Errorf("%v is shown as %s", c, shown)
		}
	}
	if minor, err := ordersystem.MinorUnits(&money.Money{CurrencyCode: "USD", Units: 19, Nanos: 990_000_000}); minor != 1999 || err != nil {
		t.Error(minor, err)
	}
	if made, err := ordersystem.MoneyOfMinor(1, "XXX"); err == nil {
		t.Error(made)
	}
}
