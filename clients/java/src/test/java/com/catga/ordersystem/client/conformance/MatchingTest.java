package com.catga.ordersystem.client.conformance;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** The driver's matcher means what the scenarios mean. */
class MatchingTest {
    @TestFactory
    Stream<DynamicTest> a_pattern_matches_what_it_should_and_refuses_the_rest() throws IOException {
        List<?> cases = (List<?>) ConformanceTest.load(ConformanceTest.SCENARIOS.resolve("matching/cases.yaml"));
        return cases.stream().map(each -> (Map<?, ?>) each).map(each -> DynamicTest.dynamicTest("pattern " + each.get("pattern"), () -> {
            Object pattern = each.get("pattern");
            for (Object value : (List<?>) each.get("matches")) {
                assertDoesNotThrow(() -> match(pattern, value));
            }
            for (Object value : (List<?>) each.get("refuses")) {
                assertThrows(Matching.Mismatch.class, () -> match(pattern, value), () -> pattern + " must not match " + value);
            }
        }));
    }

    private static void match(Object pattern, Object value) {
        new Matching(new Variables()).match(pattern, "$nothing".equals(value) ? null : value);
    }

    @Test
    void variables_keep_their_kind_alone_and_are_text_within_text() {
        Variables variables = new Variables();
        variables.put("map", Map.of("a", 1));
        variables.put("n", 9007199254740993L);
        assertEquals(Map.of("a", 1), variables.resolve("${map}"));
        assertEquals(List.of(9007199254740993L, "<9007199254740993>"), variables.resolve(List.of("${n}", "<${n}>")));
        assertEquals(Map.of("k9007199254740993", true), variables.resolve(Map.of("k${n}", true)));
        assertEquals("xxx", variables.resolve(Map.of("$text", "x", "$times", 3)));
        assertEquals(List.of(Map.of("a", 1), Map.of("a", 1)), variables.resolve(Map.of("$list", "${map}", "$times", 2)));
        assertThrows(NoSuchElementException.class, () -> variables.resolve("${unknown}"));
        assertThrows(IllegalArgumentException.class, () -> variables.resolve("in text: ${map}"));
    }
}
