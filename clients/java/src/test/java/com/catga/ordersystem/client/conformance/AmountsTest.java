package com.catga.ordersystem.client.conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.catga.ordersystem.client.Amounts;
import com.catga.ordersystem.client.server.Surroundings;
import com.google.type.Money;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Amounts are exact or refused, in the same way in every client; and what all packages share is the same here. */
class AmountsTest {
    private static List<?> cases(String name) throws IOException {
        List<?> cases = (List<?>) ((Map<?, ?>) ConformanceTest.load(ConformanceTest.SCENARIOS.resolve("money/cases.yaml"))).get(name);
        assertTrue(cases.size() >= 4);
        return cases;
    }

    private static String text(Object one, String key) {
        return (String) ((Map<?, ?>) one).get(key);
    }

    private static Money parts(Object one) {
        return Money.newBuilder()
                .setCurrencyCode(text(one, "currency"))
                .setUnits(Long.parseLong(text(one, "units")))
                .setNanos((Integer) ((Map<?, ?>) one).get("nanos"))
                .build();
    }

    @Test
    void an_amount_becomes_money_and_is_shown_with_the_decimals_of_its_currency() throws IOException {
        for (Object one : cases("exact")) {
            Money made = Amounts.money(text(one, "amount"), text(one, "currency"));
            assertEquals(parts(one), made);
            assertEquals(made, Amounts.money(new BigDecimal(text(one, "amount")), text(one, "currency")));
            String shown = text(one, "shown") == null ? text(one, "amount") : text(one, "shown");
            assertEquals(shown, Amounts.amount(made).toPlainString());
        }
    }

    @Test
    void what_is_no_exact_amount_is_refused() throws IOException {
        for (Object one : cases("refused")) {
            String amount = text(one, "amount");
            assertThrows(IllegalArgumentException.class, () -> Amounts.money(amount, text(one, "currency")), amount);
        }
        for (String amount : List.of("1E+2147483647", "1E-2147483647")) {
            assertThrows(IllegalArgumentException.class, () -> Amounts.money(new BigDecimal(amount), "USD"), amount);
        }
        assertEquals(Amounts.money("1000", "JPY"), Amounts.money(new BigDecimal("1E+3"), "JPY"));
    }

    @Test
    void what_the_service_may_say_is_shown() throws IOException {
        for (Object one : cases("shown")) {
            assertEquals(text(one, "shown"), Amounts.amount(parts(one)).toPlainString());
        }
    }

    @Test
    void parts_that_do_not_go_together_are_refused() throws IOException {
        for (Object one : cases("malformed")) {
            assertThrows(IllegalArgumentException.class, () -> Amounts.amount(parts(one)));
        }
    }

    @Test
    void the_currencies_are_those_that_all_clients_share() throws IOException {
        List<String> lines = Files.readAllLines(Surroundings.CLIENT.resolveSibling("currencies.txt"));
        assertEquals(lines, Amounts.CURRENCIES.entrySet().stream().map(e -> e.getKey() + " " + e.getValue()).sorted().toList());
    }

    @ParameterizedTest
    @ValueSource(strings = {"LICENSE-MIT", "LICENSE-APACHE"})
    void the_licences_are_part_of_what_is_packed(String licence) throws IOException {
        Path shared = Surroundings.CLIENT.resolve("../..").resolve(licence);
        try (InputStream packed = Amounts.class.getResourceAsStream("/META-INF/" + licence)) {
            assertArrayEquals(Files.readAllBytes(shared), packed.readAllBytes());
        }
    }
}
