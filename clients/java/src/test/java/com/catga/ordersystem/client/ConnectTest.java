package com.catga.ordersystem.client;

import static com.catga.ordersystem.client.OrderClient.connect;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.catga.orders.v1.GetOrderRequest;
import com.catga.orders.v1.OrderQueryServiceGrpc;
import com.catga.ordersystem.client.server.FakeServer;
import com.catga.ordersystem.client.server.Surroundings;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import java.nio.file.Files;
import java.time.Duration;
import org.junit.jupiter.api.Test;

/** What a channel does beyond what gRPC does. */
class ConnectTest {
    @Test
    void a_channel_connects_again_soon_and_again() throws Exception {
        try (SilentServer server = new SilentServer(true);
                OrderChannel channel = connect(server.address())) {
            channel.getState(true);
            long start = System.nanoTime();
            while (server.connections() < 4) {
                // By itself gRPC makes its fourth attempt after four seconds at the earliest; ours comes within one.
                assertTrue(System.nanoTime() - start < 3_000_000_000L, () -> server.connections() + " attempts in 3 s");
                Thread.sleep(10);
            }
        }
    }

    @Test
    void a_closed_channel_has_ended_and_refuses_calls() throws Exception {
        try (FakeServer fake = new FakeServer()) {
            OrderChannel channel = connect(fake.address());
            channel.close();
            assertTrue(channel.isShutdown() && channel.isTerminated());
            var queries = OrderQueryServiceGrpc.newBlockingStub(channel);
            assertThrows(StatusRuntimeException.class, () -> queries.getOrder(GetOrderRequest.getDefaultInstance()));
        }
    }

    @Test
    void options_go_on_top_of_those_of_the_client() throws Exception {
        try (FakeServer fake = new FakeServer(com.catga.ordersystem.client.server.Failure.UNAVAILABLE);
                OrderChannel channel = connect(fake.address(), InsecureChannelCredentials.create(), builder -> builder.disableRetry())) {
            var queries = OrderQueryServiceGrpc.newBlockingStub(channel).withDeadlineAfter(Duration.ofSeconds(10));
            var error = assertThrows(StatusRuntimeException.class, () -> queries.getOrder(GetOrderRequest.getDefaultInstance()));
            assertEquals(Code.UNAVAILABLE, OrderError.of(error).code());
            assertEquals(1, fake.requests().size());
        }
    }

    @Test
    void the_service_config_is_the_one_that_all_clients_share() throws Exception {
        String shared = Files.readString(Surroundings.CLIENT.resolveSibling("service_config.json"));
        assertEquals(shared, OrderClient.SERVICE_CONFIG);
    }
}
