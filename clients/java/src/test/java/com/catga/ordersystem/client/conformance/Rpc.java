package com.catga.ordersystem.client.conformance;

import com.catga.ids.v1.IdServiceGrpc;
import com.catga.orders.v1.OrderCommandServiceGrpc;
import com.catga.orders.v1.OrderHistoryServiceGrpc;
import com.catga.orders.v1.OrderQueryServiceGrpc;
import com.catga.system.v1.AdminServiceGrpc;
import com.catga.system.v1.SystemServiceGrpc;
import com.google.protobuf.Message;
import io.grpc.CallCredentials;
import io.grpc.Channel;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.stub.AbstractBlockingStub;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.time.Duration;
import java.util.Arrays;
import java.util.Iterator;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.function.Function;

/**
 * A method of a generated blocking stub, found by its name.
 *
 * @param stub its stub
 * @param method the method
 */
record Rpc(AbstractBlockingStub<?> stub, Method method) {
    private static final Map<String, Function<Channel, AbstractBlockingStub<?>>> SERVICES = Map.of(
            OrderCommandServiceGrpc.SERVICE_NAME, OrderCommandServiceGrpc::newBlockingStub,
            OrderQueryServiceGrpc.SERVICE_NAME, OrderQueryServiceGrpc::newBlockingStub,
            OrderHistoryServiceGrpc.SERVICE_NAME, OrderHistoryServiceGrpc::newBlockingStub,
            IdServiceGrpc.SERVICE_NAME, IdServiceGrpc::newBlockingStub,
            SystemServiceGrpc.SERVICE_NAME, SystemServiceGrpc::newBlockingStub,
            AdminServiceGrpc.SERVICE_NAME, AdminServiceGrpc::newBlockingStub,
            HealthGrpc.SERVICE_NAME, HealthGrpc::newBlockingStub);

    /** {@code name} is {@code Service/Method}, the service in full. */
    static Rpc find(String name, Channel channel) {
        String service = name.substring(0, name.indexOf('/'));
        String method = name.substring(service.length() + 1);
        if (!SERVICES.containsKey(service)) {
            throw new NoSuchElementException("no service " + service);
        }
        AbstractBlockingStub<?> stub = SERVICES.get(service).apply(channel);
        String inJava = method.substring(0, 1).toLowerCase() + method.substring(1);
        return Arrays.stream(stub.getClass().getDeclaredMethods())
                .filter(candidate -> candidate.getName().equals(inJava) && candidate.getParameterCount() == 1)
                .findFirst()
                .map(found -> new Rpc(stub, found))
                .orElseThrow(() -> new NoSuchElementException("no method " + name));
    }

    /** The same method with a deadline. */
    Rpc within(Duration deadline) {
        return new Rpc(stub.withDeadlineAfter(deadline), method);
    }

    /** The same method with the token of its caller. */
    Rpc with(CallCredentials credentials) {
        return new Rpc(stub.withCallCredentials(credentials), method);
    }

    /** The request of the method, from proto3 JSON. */
    Message request(Object json) {
        try {
            Object builder = method.getParameterTypes()[0].getMethod("newBuilder").invoke(null);
            return Json.parse(json, (Message.Builder) builder);
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    Message call(Message request) {
        return (Message) invoke(request);
    }

    @SuppressWarnings("unchecked")
    Iterator<Message> stream(Message request) {
        return (Iterator<Message>) invoke(request);
    }

    private Object invoke(Message request) {
        try {
            return method.invoke(stub, request);
        } catch (InvocationTargetException error) {
            if (error.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw new IllegalStateException(error.getCause());
        } catch (IllegalAccessException error) {
            throw new IllegalStateException(error);
        }
    }
}
