//! The amounts that every client parses, formats and refuses.

use std::path::Path;

use ordersystem_client::google::r#type::Money;
use serde_json::Value;

use crate::{Suite, matching::load};

fn text<'v>(case: &'v Value, key: &str) -> &'v str {
    case[key].as_str().unwrap_or_else(|| panic!("{case} has no {key}"))
}

fn parts(case: &Value) -> Money {
    Money {
        currency_code: text(case, "currency").to_owned(),
        units: text(case, "units").parse().unwrap(),
        nanos: case["nanos"].as_i64().unwrap().try_into().unwrap(),
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("expected {expected:?}, got {actual:?}")) }
}

pub fn run_cases(suite: &mut Suite, path: &Path) {
    let cases = load(path);
    let list = |name: &str| cases[name].as_array().filter(|list| list.len() >= 4).unwrap().clone();
    for case in list("exact") {
        suite.run(&format!("money: exact {case}"), || {
            let (amount, currency) = (text(&case, "amount"), text(&case, "currency"));
            let made = Money::parse(amount, currency).map_err(|error| error.to_string())?;
            expect(&made, &parts(&case))?;
            let shown = case.get("shown").map_or(amount, |shown| shown.as_str().unwrap());
            expect(&made.amount(), &Ok(shown.to_owned()))?;
            expect(&Money::from_minor(made.minor().unwrap(), currency), &Ok(made))
        });
    }
    for case in list("refused") {
        suite.run(&format!("money: refused {case}"), || {
            Money::parse(text(&case, "amount"), text(&case, "currency")).map_or(Ok(()), |made| Err(format!("{made:?}")))
        });
    }
    for case in list("shown") {
        suite.run(&format!("money: shown {case}"), || {
            expect(&parts(&case).amount(), &Ok(text(&case, "shown").to_owned()))?;
            parts(&case).minor().map_or(Ok(()), |minor| Err(format!("it has {minor} minor units")))
        });
    }
    for case in list("malformed") {
        suite.run(&format!("money: malformed {case}"), || {
            parts(&case).amount().map_or(Ok(()), |shown| Err(format!("it is shown as {shown}")))
        });
    }
    suite.run("money: minor units", || {
        expect(&Money::parse("19.99", "USD").and_then(|money| money.minor()), &Ok(1999))?;
        Money::from_minor(i64::MIN, "USD").map_or(Ok(()), |made| Err(format!("{made:?}")))
    });
}
