package com.catga.ordersystem.client.conformance;

import com.catga.ordersystem.client.OrderError;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import java.util.LinkedHashMap;
import java.util.Map;

/** Messages and errors as JSON values. */
final class Json {
    // Doubles would lose digits of 64-bit integers.
    private static final Gson GSON = new GsonBuilder().setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE).create();

    private Json() {}

    /** A message in proto3 JSON, without empty fields. */
    static Object of(Message message) {
        try {
            return GSON.fromJson(JsonFormat.printer().print(message), Object.class);
        } catch (InvalidProtocolBufferException error) {
            throw new IllegalArgumentException(error);
        }
    }

    /** Fills a builder from proto3 JSON; null is the empty message. */
    static Message parse(Object json, Message.Builder builder) {
        try {
            JsonFormat.parser().merge(json == null ? "{}" : GSON.toJson(json), builder);
            return builder.build();
        } catch (InvalidProtocolBufferException error) {
            throw new IllegalArgumentException("no " + builder.getDescriptorForType().getName() + ": " + error.getMessage(), error);
        }
    }

    /** An error as the scenarios describe it. */
    static Map<String, Object> of(OrderError error) {
        Map<String, Object> view = new LinkedHashMap<>();
        view.put("code", error.code().name());
        view.put("message", error.message());
        if (!error.reason().isEmpty()) {
            view.put("reason", error.reason());
            view.put("domain", error.domain());
            view.put("metadata", error.metadata());
        }
        view.put("fieldViolations", error.fieldViolations().stream()
                .map(v -> Map.of("field", v.field(), "description", v.description()))
                .toList());
        view.put("preconditions", error.preconditions().stream()
                .map(p -> Map.of("type", p.type(), "subject", p.subject(), "description", p.description()))
                .toList());
        error.retryDelay().ifPresent(delay -> view.put("retryDelayMs", delay.toMillis()));
        return view;
    }
}
