package com.catga.ordersystem.client.conformance;

import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The variables of one scenario. */
final class Variables {
    private static final Pattern VARIABLE = Pattern.compile("\\$\\{(\\w+)}");

    private final Map<String, Object> values = new HashMap<>();

    void put(String name, Object value) {
        values.put(name, value);
    }

    /** {@code value} with the variables put in. */
    Object resolve(Object value) {
        if (value instanceof Map<?, ?> map) {
            return map.containsKey("$times") ? repeated(map) : resolved(map);
        }
        if (value instanceof List<?> list) {
            return list.stream().map(this::resolve).toList();
        }
        return value instanceof String text ? resolved(text) : value;
    }

    /** As it stands in the proto3 JSON of a message. */
    static String text(Object scalar) {
        if (scalar instanceof String || scalar instanceof Number || scalar instanceof Boolean) {
            return scalar.toString();
        }
        throw new IllegalArgumentException(scalar + " is no scalar");
    }

    private Object repeated(Map<?, ?> map) {
        int times = (Integer) map.get("$times");
        return map.containsKey("$text")
                ? text(resolve(map.get("$text"))).repeat(times)
                : Collections.nCopies(times, resolve(map.get("$list")));
    }

    private Map<String, Object> resolved(Map<?, ?> map) {
        Map<String, Object> resolved = new LinkedHashMap<>();
        map.forEach((key, entry) -> resolved.put(text(resolve(key)), resolve(entry)));
        return resolved;
    }

    private Object resolved(String text) {
        Matcher found = VARIABLE.matcher(text);
        if (found.matches()) {
            return get(found.group(1));
        }
        return found.replaceAll(variable -> Matcher.quoteReplacement(text(get(variable.group(1)))));
    }

    private Object get(String name) {
        if (!values.containsKey(name)) {
            throw new NoSuchElementException("nothing was saved as " + name);
        }
        return values.get(name);
    }
}
