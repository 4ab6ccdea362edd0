package com.catga.ordersystem.client;

import java.util.Iterator;

/** How far a stream has been read, and how to open it there. */
interface Place<T> {
    /** Opens the stream after the last message noted. */
    Iterator<T> open();

    /** Notes that a message has been read. */
    void note(T message);

    boolean isCaughtUp(T message);

    String cursorOf(T message);
}
