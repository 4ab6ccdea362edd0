package com.catga.ordersystem.client;

import static com.catga.ordersystem.client.OrderClient.connect;
import static com.catga.ordersystem.client.OrderClient.followOrder;
import static com.catga.ordersystem.client.OrderClient.send;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.catga.orders.v1.CreateOrderRequest;
import com.catga.orders.v1.NewOrderItem;
import com.catga.orders.v1.OrderCommandServiceGrpc;
import com.catga.orders.v1.OrderHistoryServiceGrpc;
import com.catga.orders.v1.StreamOrderHistoryRequest;
import com.catga.ordersystem.client.server.OrderServer;
import com.google.type.Money;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The real server and this client with certificates. */
class TlsTest {
    private static final CreateOrderRequest CREATE = CreateOrderRequest.newBuilder()
            .setCustomerId("c")
            .addItems(NewOrderItem.newBuilder()
                    .setProductId("p")
                    .setQuantity(1)
                    .setUnitPrice(Money.newBuilder().setCurrencyCode("EUR").setUnits(1)))
            .build();

    private static final Set<Code> PLAIN = Set.of(Code.UNAVAILABLE, Code.INTERNAL);

    @TempDir
    private static Path folder;

    @BeforeAll
    static void makeCertificates() throws Exception {
        makeAuthority("ca");
        makeAuthority("stranger");
        makeCertificate("server", "ca", "subjectAltName=IP:127.0.0.1");
        makeCertificate("client", "ca", "extendedKeyUsage=clientAuth");
        makeCertificate("intruder", "stranger", "extendedKeyUsage=clientAuth");
    }

    private static void makeAuthority(String name) throws Exception {
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".pem");
    }

    private static void makeCertificate(String name, String authority, String extension) throws Exception {
        Files.writeString(folder.resolve(name + ".ext"), extension);
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".csr");
        openssl("x509", "-req", "-in", name + ".csr", "-CA", authority + ".pem", "-CAkey", authority + ".key",
                "-CAcreateserial", "-days", "2", "-extfile", name + ".ext", "-out", name + ".pem");
    }

    private static void openssl(String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of("openssl"));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true).start();
        String said = new String(process.getInputStream().readAllBytes());
        assertEquals(0, process.waitFor(), said);
    }

    private static File file(String name) {
        return folder.resolve(name).toFile();
    }

    private static ChannelCredentials trusting(String authority) throws IOException {
        return TlsChannelCredentials.newBuilder().trustManager(file(authority + ".pem")).build();
    }

    private static ChannelCredentials showing(String certificate) throws IOException {
        return TlsChannelCredentials.newBuilder()
                .trustManager(file("ca.pem"))
                .keyManager(file(certificate + ".pem"), file(certificate + ".key"))
                .build();
    }

    private static OrderServer start(String name, ChannelCredentials credentials, String... more) throws Exception {
        List<String> args = new ArrayList<>(List.of("--tls-cert", file("server.pem").toString(), "--tls-key", file("server.key").toString()));
        args.addAll(List.of(more));
        OrderServer server = new OrderServer(folder, name + System.nanoTime(), args, credentials);
        server.start();
        return server;
    }

    /** Places an order and follows its history. */
    private static void assertServes(OrderServer server, ChannelCredentials credentials) {
        try (OrderChannel channel = connect(server.address(), credentials)) {
            String order = send(OrderCommandServiceGrpc.newBlockingStub(channel)::createOrder, CREATE).getOrder().getOrderId();
            var request = StreamOrderHistoryRequest.newBuilder().setOrderId(order).setFollow(true).build();
            try (var follow = followOrder(OrderHistoryServiceGrpc.newBlockingStub(channel), request)) {
                assertEquals(order + "-1", follow.next().getEvent().getEventId());
            }
        }
    }

    /** Neither a query nor a command gets through; the server is there all the while. */
    private static void assertRefuses(OrderServer server, ChannelCredentials credentials) {
        try (OrderChannel channel = connect(server.address(), credentials)) {
            var health = HealthGrpc.newBlockingStub(channel).withDeadlineAfter(Duration.ofSeconds(10));
            var error = assertThrows(StatusRuntimeException.class, () -> health.check(HealthCheckRequest.getDefaultInstance()));
            // What answers a client that does not speak TLS is no HTTP/2, if it comes before the end of the connection.
            boolean isPlain = credentials instanceof InsecureChannelCredentials;
            assertTrue(isPlain ? PLAIN.contains(codeOf(error)) : codeOf(error) == Code.UNAVAILABLE, error::getMessage);
            var commands = OrderCommandServiceGrpc.newBlockingStub(channel);
            assertThrows(StatusRuntimeException.class, () -> send(commands::createOrder, CREATE, Duration.ofSeconds(10), 2));
        }
    }

    private static Code codeOf(StatusRuntimeException error) {
        return OrderError.of(error).code();
    }

    @Test
    void a_client_that_trusts_the_server_is_served_over_tls_and_no_other() throws Exception {
        try (OrderServer server = start("tls", trusting("ca"))) {
            assertServes(server, trusting("ca"));
            assertRefuses(server, trusting("stranger"));
            assertRefuses(server, TlsChannelCredentials.create());
            assertRefuses(server, InsecureChannelCredentials.create());
            assertServes(server, trusting("ca"));
        }
    }

    @Test
    void a_client_with_a_certificate_is_served_over_mutual_tls_and_none_without() throws Exception {
        try (OrderServer server = start("mtls", showing("client"), "--tls-client-ca", file("ca.pem").toString())) {
            assertServes(server, showing("client"));
            assertRefuses(server, trusting("ca"));
            assertRefuses(server, showing("intruder"));
            assertServes(server, showing("client"));
        }
    }

    @Test
    void the_name_of_the_server_is_checked() throws Exception {
        try (OrderServer server = start("name", trusting("ca"));
                OrderChannel channel = connect(server.address(), trusting("ca"), builder -> builder.overrideAuthority("another.example"))) {
            var health = HealthGrpc.newBlockingStub(channel).withDeadlineAfter(Duration.ofSeconds(10));
            assertThrows(StatusRuntimeException.class, () -> health.check(HealthCheckRequest.getDefaultInstance()));
            try (OrderChannel right = connect(server.address(), trusting("ca"))) {
                var answer = HealthGrpc.newBlockingStub(right).check(HealthCheckRequest.getDefaultInstance());
                assertEquals(ServingStatus.SERVING, answer.getStatus());
            }
        }
    }
}
