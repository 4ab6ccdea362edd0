package com.catga.ordersystem.client.conformance;

import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * The patterns of the scenarios; clients/conformance/README.md says what each one means. JSON values are maps, lists, texts, numbers
 * and booleans; null is a field that is not there.
 */
final class Matching {
    /** The actual value does not match the pattern. */
    static final class Mismatch extends RuntimeException {
        private static final long serialVersionUID = 1;

        Mismatch(String path, Object pattern, Object actual) {
            super("at %s: expected %s, got %s".formatted(path.isEmpty() ? "the top" : path, pattern, actual == null ? "nothing" : actual));
        }
    }

    /** One kind of matcher: whether it holds, or a {@link Mismatch} that says more. */
    private interface Matcher {
        boolean holds(Object argument, Object actual, String path);
    }

    private final Variables variables;
    private final Map<String, Matcher> matchers = new LinkedHashMap<>();

    /** What the patterns save goes into {@code variables}. */
    Matching(Variables variables) {
        this.variables = variables;
        matchers.put("$present", (argument, actual, path) -> !isMissing(actual));
        matchers.put("$absent", (argument, actual, path) -> isMissing(actual));
        matchers.put("$save", (name, actual, path) -> save((String) name, actual));
        matchers.put("$is", (pattern, actual, path) -> {
            match(pattern, actual, path);
            return true;
        });
        matchers.put("$equals", (value, actual, path) -> equal(value, actual));
        matchers.put("$not", (pattern, actual, path) -> !isMissing(actual) && !matches(pattern, actual, path));
        matchers.put("$matches", (regex, actual, path) -> actual instanceof String text && text.matches((String) regex));
        matchers.put("$gt", (value, actual, path) -> number(actual) > number(value));
        matchers.put("$ge", (value, actual, path) -> number(actual) >= number(value));
        matchers.put("$le", (value, actual, path) -> number(actual) <= number(value));
        matchers.put("$length", (length, actual, path) -> isListLike(actual) && entries(actual).size() == number(length));
        matchers.put("$contains", (pattern, actual, path) -> entries(actual).stream().anyMatch(entry -> matches(pattern, entry, path)));
        matchers.put("$each", this::each);
        matchers.put("$growing", (argument, actual, path) -> isListLike(actual) && isGrowing(entries(actual)));
    }

    /** Throws a {@link Mismatch} unless {@code actual} matches. */
    void match(Object pattern, Object actual) {
        match(pattern, actual, "");
    }

    private void match(Object pattern, Object actual, String path) {
        if (pattern instanceof Map<?, ?> map && map.keySet().stream().anyMatch(Matching::isMatcher)) {
            matchAll(map, actual, path);
        } else if (pattern instanceof Map<?, ?> map) {
            Map<?, ?> fields = actual instanceof Map<?, ?> found ? found : null;
            require(fields != null, path, pattern, actual);
            map.forEach((key, expected) -> match(expected, fields.get(key), path + "." + key));
        } else if (isMissing(pattern)) {
            require(isMissing(actual), path, pattern, actual);
        } else if (pattern instanceof List<?> list) {
            require(actual instanceof List<?> found && found.size() == list.size(), path, pattern, actual);
            IntStream.range(0, list.size()).forEach(i -> match(list.get(i), entries(actual).get(i), path + "[" + i + "]"));
        } else {
            require(isScalar(actual) && Variables.text(actual).equals(Variables.text(pattern)), path, pattern, actual);
        }
    }

    private void matchAll(Map<?, ?> pattern, Object actual, String path) {
        Map<Object, Object> rest = new LinkedHashMap<>();
        pattern.forEach((key, argument) -> {
            if (!isMatcher(key)) {
                rest.put(key, argument);
                return;
            }
            Matcher matcher = Objects.requireNonNull(matchers.get(key), () -> "no matcher " + key);
            boolean holds;
            try {
                holds = matcher.holds(argument, actual, path);
            } catch (NumberFormatException notANumber) {
                holds = false;
            }
            require(holds, path, Map.of(key, argument), actual);
        });
        if (!rest.isEmpty()) {
            match(rest, actual, path);
        }
    }

    private static void require(boolean holds, String path, Object pattern, Object actual) {
        if (!holds) {
            throw new Mismatch(path, pattern, actual);
        }
    }

    private boolean matches(Object pattern, Object actual, String path) {
        try {
            match(pattern, actual, path);
            return true;
        } catch (Mismatch mismatch) {
            return false;
        }
    }

    private boolean save(String name, Object actual) {
        if (isMissing(actual)) {
            return false;
        }
        variables.put(name, actual);
        return true;
    }

    private boolean each(Object pattern, Object actual, String path) {
        List<?> entries = entries(actual);
        IntStream.range(0, entries.size()).forEach(i -> match(pattern, entries.get(i), path + "[" + i + "]"));
        return isListLike(actual);
    }

    private static boolean isGrowing(List<?> entries) {
        return IntStream.range(1, entries.size()).allMatch(i -> number(entries.get(i - 1)) < number(entries.get(i)));
    }

    private static boolean isMatcher(Object key) {
        return ((String) key).startsWith("$");
    }

    private static boolean isScalar(Object value) {
        return value instanceof String || value instanceof Number || value instanceof Boolean;
    }

    private static boolean isMissing(Object value) {
        return value == null
                || (value instanceof List<?> list && list.isEmpty())
                || (isScalar(value) && Set.of("", "0", "false").contains(Variables.text(value)));
    }

    private static boolean isListLike(Object value) {
        return isMissing(value) || value instanceof List<?>;
    }

    private static List<?> entries(Object value) {
        return value instanceof List<?> list ? list : List.of();
    }

    /** In 64 bits; what is missing is 0. */
    private static long number(Object value) {
        if (isMissing(value)) {
            return 0;
        }
        if (!isScalar(value)) {
            throw new NumberFormatException(value + " is no number");
        }
        return Long.parseLong(Variables.text(value));
    }

    private static boolean equal(Object one, Object other) {
        if (isMissing(one) || isMissing(other)) {
            return isMissing(one) && isMissing(other);
        }
        if (one instanceof Map<?, ?> a && other instanceof Map<?, ?> b) {
            Set<Object> keys = new HashSet<>(a.keySet());
            keys.addAll(b.keySet());
            return keys.stream().allMatch(key -> equal(a.get(key), b.get(key)));
        }
        if (one instanceof List<?> a && other instanceof List<?> b) {
            return a.size() == b.size() && IntStream.range(0, a.size()).allMatch(i -> equal(a.get(i), b.get(i)));
        }
        return isScalar(one) && isScalar(other) && Variables.text(one).equals(Variables.text(other));
    }
}
