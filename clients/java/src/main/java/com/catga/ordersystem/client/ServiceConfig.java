package com.catga.ordersystem.client;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** The service config that all clients share. */
final class ServiceConfig {
    static final String JSON = read();

    private ServiceConfig() {}

    /** As gRPC wants it: maps, lists, texts, booleans, and every number a double. */
    static Map<String, Object> asMap() {
        return new Gson().fromJson(JSON, new TypeToken<Map<String, Object>>() {});
    }

    private static String read() {
        try (InputStream file = ServiceConfig.class.getResourceAsStream("service_config.json")) {
            return new String(file.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
