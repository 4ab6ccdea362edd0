package com.catga.orders.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Reads orders, lists and totals. Queries have no side effects and are safe to retry.
 * Consistency: every request chooses the freshness of its reply with `consistency`, and every reply has a token for later queries.
 * Customers: a caller with the role of a customer sees the orders of its own customer id only. Lists and totals have no others, and for a query by id
 * the others do not exist.
 * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
 * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the token was issued by
 *   another event log, or by this one before it lost events: repeat the query without it)
 * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer lists its own orders only)
 * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the requested revision, or did not exist at the requested time)
 * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo), MESSAGE_TOO_LARGE
 * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
 * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED, NOT_FRESH_IN_TIME (the node did not reach the requested consistency in time)
 * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class OrderQueryServiceGrpc {

  private OrderQueryServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "catga.orders.v1.OrderQueryService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.GetOrderRequest,
      com.catga.orders.v1.GetOrderResponse> getGetOrderMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetOrder",
      requestType = com.catga.orders.v1.GetOrderRequest.class,
      responseType = com.catga.orders.v1.GetOrderResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.GetOrderRequest,
      com.catga.orders.v1.GetOrderResponse> getGetOrderMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.GetOrderRequest, com.catga.orders.v1.GetOrderResponse> getGetOrderMethod;
    if ((getGetOrderMethod = OrderQueryServiceGrpc.getGetOrderMethod) == null) {
      synchronized (OrderQueryServiceGrpc.class) {
        if ((getGetOrderMethod = OrderQueryServiceGrpc.getGetOrderMethod) == null) {
          OrderQueryServiceGrpc.getGetOrderMethod = getGetOrderMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.GetOrderRequest, com.catga.orders.v1.GetOrderResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetOrder"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.GetOrderRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.GetOrderResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderQueryServiceMethodDescriptorSupplier("GetOrder"))
              .build();
        }
      }
    }
    return getGetOrderMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.ListOrdersRequest,
      com.catga.orders.v1.ListOrdersResponse> getListOrdersMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListOrders",
      requestType = com.catga.orders.v1.ListOrdersRequest.class,
      responseType = com.catga.orders.v1.ListOrdersResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.ListOrdersRequest,
      com.catga.orders.v1.ListOrdersResponse> getListOrdersMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.ListOrdersRequest, com.catga.orders.v1.ListOrdersResponse> getListOrdersMethod;
    if ((getListOrdersMethod = OrderQueryServiceGrpc.getListOrdersMethod) == null) {
      synchronized (OrderQueryServiceGrpc.class) {
        if ((getListOrdersMethod = OrderQueryServiceGrpc.getListOrdersMethod) == null) {
          OrderQueryServiceGrpc.getListOrdersMethod = getListOrdersMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.ListOrdersRequest, com.catga.orders.v1.ListOrdersResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListOrders"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.ListOrdersRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.ListOrdersResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderQueryServiceMethodDescriptorSupplier("ListOrders"))
              .build();
        }
      }
    }
    return getListOrdersMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.GetOrderStatsRequest,
      com.catga.orders.v1.GetOrderStatsResponse> getGetOrderStatsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetOrderStats",
      requestType = com.catga.orders.v1.GetOrderStatsRequest.class,
      responseType = com.catga.orders.v1.GetOrderStatsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.GetOrderStatsRequest,
      com.catga.orders.v1.GetOrderStatsResponse> getGetOrderStatsMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.GetOrderStatsRequest, com.catga.orders.v1.GetOrderStatsResponse> getGetOrderStatsMethod;
    if ((getGetOrderStatsMethod = OrderQueryServiceGrpc.getGetOrderStatsMethod) == null) {
      synchronized (OrderQueryServiceGrpc.class) {
        if ((getGetOrderStatsMethod = OrderQueryServiceGrpc.getGetOrderStatsMethod) == null) {
          OrderQueryServiceGrpc.getGetOrderStatsMethod = getGetOrderStatsMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.GetOrderStatsRequest, com.catga.orders.v1.GetOrderStatsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetOrderStats"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.GetOrderStatsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.GetOrderStatsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderQueryServiceMethodDescriptorSupplier("GetOrderStats"))
              .build();
        }
      }
    }
    return getGetOrderStatsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.BatchGetOrdersRequest,
      com.catga.orders.v1.BatchGetOrdersResponse> getBatchGetOrdersMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "BatchGetOrders",
      requestType = com.catga.orders.v1.BatchGetOrdersRequest.class,
      responseType = com.catga.orders.v1.BatchGetOrdersResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.BatchGetOrdersRequest,
      com.catga.orders.v1.BatchGetOrdersResponse> getBatchGetOrdersMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.BatchGetOrdersRequest, com.catga.orders.v1.BatchGetOrdersResponse> getBatchGetOrdersMethod;
    if ((getBatchGetOrdersMethod = OrderQueryServiceGrpc.getBatchGetOrdersMethod) == null) {
      synchronized (OrderQueryServiceGrpc.class) {
        if ((getBatchGetOrdersMethod = OrderQueryServiceGrpc.getBatchGetOrdersMethod) == null) {
          OrderQueryServiceGrpc.getBatchGetOrdersMethod = getBatchGetOrdersMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.BatchGetOrdersRequest, com.catga.orders.v1.BatchGetOrdersResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "BatchGetOrders"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.BatchGetOrdersRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.BatchGetOrdersResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderQueryServiceMethodDescriptorSupplier("BatchGetOrders"))
              .build();
        }
      }
    }
    return getBatchGetOrdersMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static OrderQueryServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderQueryServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderQueryServiceStub>() {
        @java.lang.Override
        public OrderQueryServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderQueryServiceStub(channel, callOptions);
        }
      };
    return OrderQueryServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static OrderQueryServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderQueryServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderQueryServiceBlockingV2Stub>() {
        @java.lang.Override
        public OrderQueryServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderQueryServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return OrderQueryServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static OrderQueryServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderQueryServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderQueryServiceBlockingStub>() {
        @java.lang.Override
        public OrderQueryServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderQueryServiceBlockingStub(channel, callOptions);
        }
      };
    return OrderQueryServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static OrderQueryServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderQueryServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderQueryServiceFutureStub>() {
        @java.lang.Override
        public OrderQueryServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderQueryServiceFutureStub(channel, callOptions);
        }
      };
    return OrderQueryServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Reads orders, lists and totals. Queries have no side effects and are safe to retry.
   * Consistency: every request chooses the freshness of its reply with `consistency`, and every reply has a token for later queries.
   * Customers: a caller with the role of a customer sees the orders of its own customer id only. Lists and totals have no others, and for a query by id
   * the others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the token was issued by
   *   another event log, or by this one before it lost events: repeat the query without it)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer lists its own orders only)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the requested revision, or did not exist at the requested time)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED, NOT_FRESH_IN_TIME (the node did not reach the requested consistency in time)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Returns one order as it is now, as it was at a revision, or as it was at a time. ORDER_NOT_FOUND if there is no such order.
     * </pre>
     */
    default void getOrder(com.catga.orders.v1.GetOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.GetOrderResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetOrderMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a page of orders from the read model, which may lag behind GetOrder unless `consistency` requires otherwise.
     * </pre>
     */
    default void listOrders(com.catga.orders.v1.ListOrdersRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.ListOrdersResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListOrdersMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns counts and revenue over all orders, from the read model.
     * </pre>
     */
    default void getOrderStats(com.catga.orders.v1.GetOrderStatsRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.GetOrderStatsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetOrderStatsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns up to 500 orders by id. Missing orders are listed in the reply, not an error. A reply larger than 4 MiB is refused with
     * MESSAGE_TOO_LARGE: request fewer orders per call.
     * </pre>
     */
    default void batchGetOrders(com.catga.orders.v1.BatchGetOrdersRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.BatchGetOrdersResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getBatchGetOrdersMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service OrderQueryService.
   * <pre>
   * Reads orders, lists and totals. Queries have no side effects and are safe to retry.
   * Consistency: every request chooses the freshness of its reply with `consistency`, and every reply has a token for later queries.
   * Customers: a caller with the role of a customer sees the orders of its own customer id only. Lists and totals have no others, and for a query by id
   * the others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the token was issued by
   *   another event log, or by this one before it lost events: repeat the query without it)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer lists its own orders only)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the requested revision, or did not exist at the requested time)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED, NOT_FRESH_IN_TIME (the node did not reach the requested consistency in time)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static abstract class OrderQueryServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return OrderQueryServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service OrderQueryService.
   * <pre>
   * Reads orders, lists and totals. Queries have no side effects and are safe to retry.
   * Consistency: every request chooses the freshness of its reply with `consistency`, and every reply has a token for later queries.
   * Customers: a caller with the role of a customer sees the orders of its own customer id only. Lists and totals have no others, and for a query by id
   * the others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the token was issued by
   *   another event log, or by this one before it lost events: repeat the query without it)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer lists its own orders only)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the requested revision, or did not exist at the requested time)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED, NOT_FRESH_IN_TIME (the node did not reach the requested consistency in time)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderQueryServiceStub
      extends io.grpc.stub.AbstractAsyncStub<OrderQueryServiceStub> {
    private OrderQueryServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderQueryServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderQueryServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns one order as it is now, as it was at a revision, or as it was at a time. ORDER_NOT_FOUND if there is no such order.
     * </pre>
     */
    public void getOrder(com.catga.orders.v1.GetOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.GetOrderResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetOrderMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a page of orders from the read model, which may lag behind GetOrder unless `consistency` requires otherwise.
     * </pre>
     */
    public void listOrders(com.catga.orders.v1.ListOrdersRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.ListOrdersResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListOrdersMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns counts and revenue over all orders, from the read model.
     * </pre>
     */
    public void getOrderStats(com.catga.orders.v1.GetOrderStatsRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.GetOrderStatsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetOrderStatsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns up to 500 orders by id. Missing orders are listed in the reply, not an error. A reply larger than 4 MiB is refused with
     * MESSAGE_TOO_LARGE: request fewer orders per call.
     * </pre>
     */
    public void batchGetOrders(com.catga.orders.v1.BatchGetOrdersRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.BatchGetOrdersResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getBatchGetOrdersMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service OrderQueryService.
   * <pre>
   * Reads orders, lists and totals. Queries have no side effects and are safe to retry.
   * Consistency: every request chooses the freshness of its reply with `consistency`, and every reply has a token for later queries.
   * Customers: a caller with the role of a customer sees the orders of its own customer id only. Lists and totals have no others, and for a query by id
   * the others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the token was issued by
   *   another event log, or by this one before it lost events: repeat the query without it)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer lists its own orders only)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the requested revision, or did not exist at the requested time)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED, NOT_FRESH_IN_TIME (the node did not reach the requested consistency in time)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderQueryServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<OrderQueryServiceBlockingV2Stub> {
    private OrderQueryServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderQueryServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderQueryServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns one order as it is now, as it was at a revision, or as it was at a time. ORDER_NOT_FOUND if there is no such order.
     * </pre>
     */
    public com.catga.orders.v1.GetOrderResponse getOrder(com.catga.orders.v1.GetOrderRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of orders from the read model, which may lag behind GetOrder unless `consistency` requires otherwise.
     * </pre>
     */
    public com.catga.orders.v1.ListOrdersResponse listOrders(com.catga.orders.v1.ListOrdersRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListOrdersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns counts and revenue over all orders, from the read model.
     * </pre>
     */
    public com.catga.orders.v1.GetOrderStatsResponse getOrderStats(com.catga.orders.v1.GetOrderStatsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetOrderStatsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns up to 500 orders by id. Missing orders are listed in the reply, not an error. A reply larger than 4 MiB is refused with
     * MESSAGE_TOO_LARGE: request fewer orders per call.
     * </pre>
     */
    public com.catga.orders.v1.BatchGetOrdersResponse batchGetOrders(com.catga.orders.v1.BatchGetOrdersRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getBatchGetOrdersMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service OrderQueryService.
   * <pre>
   * Reads orders, lists and totals. Queries have no side effects and are safe to retry.
   * Consistency: every request chooses the freshness of its reply with `consistency`, and every reply has a token for later queries.
   * Customers: a caller with the role of a customer sees the orders of its own customer id only. Lists and totals have no others, and for a query by id
   * the others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the token was issued by
   *   another event log, or by this one before it lost events: repeat the query without it)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer lists its own orders only)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the requested revision, or did not exist at the requested time)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED, NOT_FRESH_IN_TIME (the node did not reach the requested consistency in time)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderQueryServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<OrderQueryServiceBlockingStub> {
    private OrderQueryServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderQueryServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderQueryServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns one order as it is now, as it was at a revision, or as it was at a time. ORDER_NOT_FOUND if there is no such order.
     * </pre>
     */
    public com.catga.orders.v1.GetOrderResponse getOrder(com.catga.orders.v1.GetOrderRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of orders from the read model, which may lag behind GetOrder unless `consistency` requires otherwise.
     * </pre>
     */
    public com.catga.orders.v1.ListOrdersResponse listOrders(com.catga.orders.v1.ListOrdersRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListOrdersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns counts and revenue over all orders, from the read model.
     * </pre>
     */
    public com.catga.orders.v1.GetOrderStatsResponse getOrderStats(com.catga.orders.v1.GetOrderStatsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetOrderStatsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns up to 500 orders by id. Missing orders are listed in the reply, not an error. A reply larger than 4 MiB is refused with
     * MESSAGE_TOO_LARGE: request fewer orders per call.
     * </pre>
     */
    public com.catga.orders.v1.BatchGetOrdersResponse batchGetOrders(com.catga.orders.v1.BatchGetOrdersRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getBatchGetOrdersMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service OrderQueryService.
   * <pre>
   * Reads orders, lists and totals. Queries have no side effects and are safe to retry.
   * Consistency: every request chooses the freshness of its reply with `consistency`, and every reply has a token for later queries.
   * Customers: a caller with the role of a customer sees the orders of its own customer id only. Lists and totals have no others, and for a query by id
   * the others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the token was issued by
   *   another event log, or by this one before it lost events: repeat the query without it)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer lists its own orders only)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the requested revision, or did not exist at the requested time)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED, NOT_FRESH_IN_TIME (the node did not reach the requested consistency in time)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderQueryServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<OrderQueryServiceFutureStub> {
    private OrderQueryServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderQueryServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderQueryServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns one order as it is now, as it was at a revision, or as it was at a time. ORDER_NOT_FOUND if there is no such order.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.GetOrderResponse> getOrder(
        com.catga.orders.v1.GetOrderRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetOrderMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a page of orders from the read model, which may lag behind GetOrder unless `consistency` requires otherwise.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.ListOrdersResponse> listOrders(
        com.catga.orders.v1.ListOrdersRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListOrdersMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns counts and revenue over all orders, from the read model.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.GetOrderStatsResponse> getOrderStats(
        com.catga.orders.v1.GetOrderStatsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetOrderStatsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns up to 500 orders by id. Missing orders are listed in the reply, not an error. A reply larger than 4 MiB is refused with
     * MESSAGE_TOO_LARGE: request fewer orders per call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.BatchGetOrdersResponse> batchGetOrders(
        com.catga.orders.v1.BatchGetOrdersRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getBatchGetOrdersMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_GET_ORDER = 0;
  private static final int METHODID_LIST_ORDERS = 1;
  private static final int METHODID_GET_ORDER_STATS = 2;
  private static final int METHODID_BATCH_GET_ORDERS = 3;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final AsyncService serviceImpl;
    private final int methodId;

    MethodHandlers(AsyncService serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_GET_ORDER:
          serviceImpl.getOrder((com.catga.orders.v1.GetOrderRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.GetOrderResponse>) responseObserver);
          break;
        case METHODID_LIST_ORDERS:
          serviceImpl.listOrders((com.catga.orders.v1.ListOrdersRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.ListOrdersResponse>) responseObserver);
          break;
        case METHODID_GET_ORDER_STATS:
          serviceImpl.getOrderStats((com.catga.orders.v1.GetOrderStatsRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.GetOrderStatsResponse>) responseObserver);
          break;
        case METHODID_BATCH_GET_ORDERS:
          serviceImpl.batchGetOrders((com.catga.orders.v1.BatchGetOrdersRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.BatchGetOrdersResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getGetOrderMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.GetOrderRequest,
              com.catga.orders.v1.GetOrderResponse>(
                service, METHODID_GET_ORDER)))
        .addMethod(
          getListOrdersMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.ListOrdersRequest,
              com.catga.orders.v1.ListOrdersResponse>(
                service, METHODID_LIST_ORDERS)))
        .addMethod(
          getGetOrderStatsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.GetOrderStatsRequest,
              com.catga.orders.v1.GetOrderStatsResponse>(
                service, METHODID_GET_ORDER_STATS)))
        .addMethod(
          getBatchGetOrdersMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.BatchGetOrdersRequest,
              com.catga.orders.v1.BatchGetOrdersResponse>(
                service, METHODID_BATCH_GET_ORDERS)))
        .build();
  }

  private static abstract class OrderQueryServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    OrderQueryServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return com.catga.orders.v1.QueriesProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("OrderQueryService");
    }
  }

  private static final class OrderQueryServiceFileDescriptorSupplier
      extends OrderQueryServiceBaseDescriptorSupplier {
    OrderQueryServiceFileDescriptorSupplier() {}
  }

  private static final class OrderQueryServiceMethodDescriptorSupplier
      extends OrderQueryServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    OrderQueryServiceMethodDescriptorSupplier(java.lang.String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (OrderQueryServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new OrderQueryServiceFileDescriptorSupplier())
              .addMethod(getGetOrderMethod())
              .addMethod(getListOrdersMethod())
              .addMethod(getGetOrderStatsMethod())
              .addMethod(getBatchGetOrdersMethod())
              .build();
        }
      }
    }
    return result;
  }
}
