/**
 * Helpers for clients of the order service, for where the generated stubs alone hurt: {@link
 * com.catga.ordersystem.client.OrderClient} has them all.
 *
 * <p>The messages and stubs themselves are in {@code com.catga.orders.v1}, {@code com.catga.events.v1}, {@code
 * com.catga.ids.v1} and {@code com.catga.system.v1}.
 */
package com.catga.ordersystem.client;
