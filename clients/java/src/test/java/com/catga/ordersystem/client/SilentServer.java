package com.catga.ordersystem.client;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;

/** Takes connections and says nothing; or hangs up at once. */
final class SilentServer implements AutoCloseable {
    private final ServerSocket listener;
    private final boolean hangsUp;
    private final List<Socket> connections = new ArrayList<>();

    SilentServer() throws IOException {
        this(false);
    }

    SilentServer(boolean hangsUp) throws IOException {
        this.listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        this.hangsUp = hangsUp;
        Thread acceptor = new Thread(this::accept);
        acceptor.setDaemon(true);
        acceptor.start();
    }

    String address() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    synchronized int connections() {
        return connections.size();
    }

    @Override
    public synchronized void close() throws IOException {
        listener.close();
        for (Socket connection : connections) {
            connection.close();
        }
    }

    private void accept() {
        while (!listener.isClosed()) {
            try {
                Socket connection = listener.accept();
                synchronized (this) {
                    connections.add(connection);
                }
                if (hangsUp) {
                    connection.close();
                }
            } catch (IOException closed) {
                return;
            }
        }
    }
}
