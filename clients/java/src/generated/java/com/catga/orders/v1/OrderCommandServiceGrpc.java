package com.catga.orders.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Changes orders. A command is atomic: either all of its events are appended to the log, or none.
 * Idempotency: a command with a `request_id` takes effect at most once, on any node and for the lifetime of its order. A retry with the
 * same id and payload (`actor` may differ) returns the first reply. Without a `request_id` a command is not safe to retry. Where the service
 * identifies its callers, a `request_id` belongs to its caller: the same id of two callers is two requests.
 * Consistency: a command decides on the current state of its order, and a success is sent only once the event store has acknowledged
 * the commit. A query given the returned `consistency_token` sees the command, on any node.
 * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
 * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
 * - NOT_FOUND: ORDER_NOT_FOUND (also for an order of another customer, if the caller is a customer)
 * - PERMISSION_DENIED: ROLE_MISSING, CUSTOMER_NOT_ALLOWED (a customer places orders with its own customer id only), ACTOR_NOT_ALLOWED (the caller may not act
 *   for others)
 * - FAILED_PRECONDITION: ILLEGAL_TRANSITION (the order's status does not allow the command; PreconditionFailure)
 * - ABORTED: REVISION_CONFLICT (the order is not at `expected_revision`), CONTENTION (concurrent commands for the same order kept
 *   winning; RetryInfo)
 * - ALREADY_EXISTS: REQUEST_ID_REUSED (the `request_id` was used before with another payload)
 * - RESOURCE_EXHAUSTED: OVERLOADED, STORE_FULL (RetryInfo), MESSAGE_TOO_LARGE
 * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo), OUTCOME_UNKNOWN (RetryInfo; the command may or may not have taken effect:
 *   retry with the same `request_id`). UNAVAILABLE without details means that the connection broke: treat it as OUTCOME_UNKNOWN
 * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (treat it as OUTCOME_UNKNOWN)
 * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class OrderCommandServiceGrpc {

  private OrderCommandServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "catga.orders.v1.OrderCommandService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.CreateOrderRequest,
      com.catga.orders.v1.CreateOrderResponse> getCreateOrderMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CreateOrder",
      requestType = com.catga.orders.v1.CreateOrderRequest.class,
      responseType = com.catga.orders.v1.CreateOrderResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.CreateOrderRequest,
      com.catga.orders.v1.CreateOrderResponse> getCreateOrderMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.CreateOrderRequest, com.catga.orders.v1.CreateOrderResponse> getCreateOrderMethod;
    if ((getCreateOrderMethod = OrderCommandServiceGrpc.getCreateOrderMethod) == null) {
      synchronized (OrderCommandServiceGrpc.class) {
        if ((getCreateOrderMethod = OrderCommandServiceGrpc.getCreateOrderMethod) == null) {
          OrderCommandServiceGrpc.getCreateOrderMethod = getCreateOrderMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.CreateOrderRequest, com.catga.orders.v1.CreateOrderResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CreateOrder"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.CreateOrderRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.CreateOrderResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderCommandServiceMethodDescriptorSupplier("CreateOrder"))
              .build();
        }
      }
    }
    return getCreateOrderMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.PayOrderRequest,
      com.catga.orders.v1.PayOrderResponse> getPayOrderMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "PayOrder",
      requestType = com.catga.orders.v1.PayOrderRequest.class,
      responseType = com.catga.orders.v1.PayOrderResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.PayOrderRequest,
      com.catga.orders.v1.PayOrderResponse> getPayOrderMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.PayOrderRequest, com.catga.orders.v1.PayOrderResponse> getPayOrderMethod;
    if ((getPayOrderMethod = OrderCommandServiceGrpc.getPayOrderMethod) == null) {
      synchronized (OrderCommandServiceGrpc.class) {
        if ((getPayOrderMethod = OrderCommandServiceGrpc.getPayOrderMethod) == null) {
          OrderCommandServiceGrpc.getPayOrderMethod = getPayOrderMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.PayOrderRequest, com.catga.orders.v1.PayOrderResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "PayOrder"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.PayOrderRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.PayOrderResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderCommandServiceMethodDescriptorSupplier("PayOrder"))
              .build();
        }
      }
    }
    return getPayOrderMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.ShipOrderRequest,
      com.catga.orders.v1.ShipOrderResponse> getShipOrderMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ShipOrder",
      requestType = com.catga.orders.v1.ShipOrderRequest.class,
      responseType = com.catga.orders.v1.ShipOrderResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.ShipOrderRequest,
      com.catga.orders.v1.ShipOrderResponse> getShipOrderMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.ShipOrderRequest, com.catga.orders.v1.ShipOrderResponse> getShipOrderMethod;
    if ((getShipOrderMethod = OrderCommandServiceGrpc.getShipOrderMethod) == null) {
      synchronized (OrderCommandServiceGrpc.class) {
        if ((getShipOrderMethod = OrderCommandServiceGrpc.getShipOrderMethod) == null) {
          OrderCommandServiceGrpc.getShipOrderMethod = getShipOrderMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.ShipOrderRequest, com.catga.orders.v1.ShipOrderResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ShipOrder"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.ShipOrderRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.ShipOrderResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderCommandServiceMethodDescriptorSupplier("ShipOrder"))
              .build();
        }
      }
    }
    return getShipOrderMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.DeliverOrderRequest,
      com.catga.orders.v1.DeliverOrderResponse> getDeliverOrderMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeliverOrder",
      requestType = com.catga.orders.v1.DeliverOrderRequest.class,
      responseType = com.catga.orders.v1.DeliverOrderResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.DeliverOrderRequest,
      com.catga.orders.v1.DeliverOrderResponse> getDeliverOrderMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.DeliverOrderRequest, com.catga.orders.v1.DeliverOrderResponse> getDeliverOrderMethod;
    if ((getDeliverOrderMethod = OrderCommandServiceGrpc.getDeliverOrderMethod) == null) {
      synchronized (OrderCommandServiceGrpc.class) {
        if ((getDeliverOrderMethod = OrderCommandServiceGrpc.getDeliverOrderMethod) == null) {
          OrderCommandServiceGrpc.getDeliverOrderMethod = getDeliverOrderMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.DeliverOrderRequest, com.catga.orders.v1.DeliverOrderResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeliverOrder"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.DeliverOrderRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.DeliverOrderResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderCommandServiceMethodDescriptorSupplier("DeliverOrder"))
              .build();
        }
      }
    }
    return getDeliverOrderMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.CancelOrderRequest,
      com.catga.orders.v1.CancelOrderResponse> getCancelOrderMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CancelOrder",
      requestType = com.catga.orders.v1.CancelOrderRequest.class,
      responseType = com.catga.orders.v1.CancelOrderResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.CancelOrderRequest,
      com.catga.orders.v1.CancelOrderResponse> getCancelOrderMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.CancelOrderRequest, com.catga.orders.v1.CancelOrderResponse> getCancelOrderMethod;
    if ((getCancelOrderMethod = OrderCommandServiceGrpc.getCancelOrderMethod) == null) {
      synchronized (OrderCommandServiceGrpc.class) {
        if ((getCancelOrderMethod = OrderCommandServiceGrpc.getCancelOrderMethod) == null) {
          OrderCommandServiceGrpc.getCancelOrderMethod = getCancelOrderMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.CancelOrderRequest, com.catga.orders.v1.CancelOrderResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CancelOrder"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.CancelOrderRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.CancelOrderResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderCommandServiceMethodDescriptorSupplier("CancelOrder"))
              .build();
        }
      }
    }
    return getCancelOrderMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.ExecuteCommandsRequest,
      com.catga.orders.v1.ExecuteCommandsResponse> getExecuteCommandsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ExecuteCommands",
      requestType = com.catga.orders.v1.ExecuteCommandsRequest.class,
      responseType = com.catga.orders.v1.ExecuteCommandsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.ExecuteCommandsRequest,
      com.catga.orders.v1.ExecuteCommandsResponse> getExecuteCommandsMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.ExecuteCommandsRequest, com.catga.orders.v1.ExecuteCommandsResponse> getExecuteCommandsMethod;
    if ((getExecuteCommandsMethod = OrderCommandServiceGrpc.getExecuteCommandsMethod) == null) {
      synchronized (OrderCommandServiceGrpc.class) {
        if ((getExecuteCommandsMethod = OrderCommandServiceGrpc.getExecuteCommandsMethod) == null) {
          OrderCommandServiceGrpc.getExecuteCommandsMethod = getExecuteCommandsMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.ExecuteCommandsRequest, com.catga.orders.v1.ExecuteCommandsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ExecuteCommands"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.ExecuteCommandsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.ExecuteCommandsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderCommandServiceMethodDescriptorSupplier("ExecuteCommands"))
              .build();
        }
      }
    }
    return getExecuteCommandsMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static OrderCommandServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderCommandServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderCommandServiceStub>() {
        @java.lang.Override
        public OrderCommandServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderCommandServiceStub(channel, callOptions);
        }
      };
    return OrderCommandServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static OrderCommandServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderCommandServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderCommandServiceBlockingV2Stub>() {
        @java.lang.Override
        public OrderCommandServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderCommandServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return OrderCommandServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static OrderCommandServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderCommandServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderCommandServiceBlockingStub>() {
        @java.lang.Override
        public OrderCommandServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderCommandServiceBlockingStub(channel, callOptions);
        }
      };
    return OrderCommandServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static OrderCommandServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderCommandServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderCommandServiceFutureStub>() {
        @java.lang.Override
        public OrderCommandServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderCommandServiceFutureStub(channel, callOptions);
        }
      };
    return OrderCommandServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Changes orders. A command is atomic: either all of its events are appended to the log, or none.
   * Idempotency: a command with a `request_id` takes effect at most once, on any node and for the lifetime of its order. A retry with the
   * same id and payload (`actor` may differ) returns the first reply. Without a `request_id` a command is not safe to retry. Where the service
   * identifies its callers, a `request_id` belongs to its caller: the same id of two callers is two requests.
   * Consistency: a command decides on the current state of its order, and a success is sent only once the event store has acknowledged
   * the commit. A query given the returned `consistency_token` sees the command, on any node.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: ORDER_NOT_FOUND (also for an order of another customer, if the caller is a customer)
   * - PERMISSION_DENIED: ROLE_MISSING, CUSTOMER_NOT_ALLOWED (a customer places orders with its own customer id only), ACTOR_NOT_ALLOWED (the caller may not act
   *   for others)
   * - FAILED_PRECONDITION: ILLEGAL_TRANSITION (the order's status does not allow the command; PreconditionFailure)
   * - ABORTED: REVISION_CONFLICT (the order is not at `expected_revision`), CONTENTION (concurrent commands for the same order kept
   *   winning; RetryInfo)
   * - ALREADY_EXISTS: REQUEST_ID_REUSED (the `request_id` was used before with another payload)
   * - RESOURCE_EXHAUSTED: OVERLOADED, STORE_FULL (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo), OUTCOME_UNKNOWN (RetryInfo; the command may or may not have taken effect:
   *   retry with the same `request_id`). UNAVAILABLE without details means that the connection broke: treat it as OUTCOME_UNKNOWN
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (treat it as OUTCOME_UNKNOWN)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Places an order. The service assigns the order id. Without a `request_id`, a retry may place a second order.
     * </pre>
     */
    default void createOrder(com.catga.orders.v1.CreateOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.CreateOrderResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCreateOrderMethod(), responseObserver);
    }

    /**
     * <pre>
     * Pays a pending order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    default void payOrder(com.catga.orders.v1.PayOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.PayOrderResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getPayOrderMethod(), responseObserver);
    }

    /**
     * <pre>
     * Ships a paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    default void shipOrder(com.catga.orders.v1.ShipOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.ShipOrderResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getShipOrderMethod(), responseObserver);
    }

    /**
     * <pre>
     * Marks a shipped order as delivered. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    default void deliverOrder(com.catga.orders.v1.DeliverOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.DeliverOrderResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeliverOrderMethod(), responseObserver);
    }

    /**
     * <pre>
     * Cancels a pending or paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    default void cancelOrder(com.catga.orders.v1.CancelOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.CancelOrderResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCancelOrderMethod(), responseObserver);
    }

    /**
     * <pre>
     * Runs many commands over one call, for bulk loading. Each command gets one reply with its correlation id: a success, or the error that
     * the unary call would return. A failed command does not end the call. Commands for the same order run one after the other, in the
     * order in which they were sent; commands for different orders run concurrently, so their replies may arrive in any order. While the
     * client does not read replies, the server stops reading commands.
     * </pre>
     */
    default io.grpc.stub.StreamObserver<com.catga.orders.v1.ExecuteCommandsRequest> executeCommands(
        io.grpc.stub.StreamObserver<com.catga.orders.v1.ExecuteCommandsResponse> responseObserver) {
      return io.grpc.stub.ServerCalls.asyncUnimplementedStreamingCall(getExecuteCommandsMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service OrderCommandService.
   * <pre>
   * Changes orders. A command is atomic: either all of its events are appended to the log, or none.
   * Idempotency: a command with a `request_id` takes effect at most once, on any node and for the lifetime of its order. A retry with the
   * same id and payload (`actor` may differ) returns the first reply. Without a `request_id` a command is not safe to retry. Where the service
   * identifies its callers, a `request_id` belongs to its caller: the same id of two callers is two requests.
   * Consistency: a command decides on the current state of its order, and a success is sent only once the event store has acknowledged
   * the commit. A query given the returned `consistency_token` sees the command, on any node.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: ORDER_NOT_FOUND (also for an order of another customer, if the caller is a customer)
   * - PERMISSION_DENIED: ROLE_MISSING, CUSTOMER_NOT_ALLOWED (a customer places orders with its own customer id only), ACTOR_NOT_ALLOWED (the caller may not act
   *   for others)
   * - FAILED_PRECONDITION: ILLEGAL_TRANSITION (the order's status does not allow the command; PreconditionFailure)
   * - ABORTED: REVISION_CONFLICT (the order is not at `expected_revision`), CONTENTION (concurrent commands for the same order kept
   *   winning; RetryInfo)
   * - ALREADY_EXISTS: REQUEST_ID_REUSED (the `request_id` was used before with another payload)
   * - RESOURCE_EXHAUSTED: OVERLOADED, STORE_FULL (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo), OUTCOME_UNKNOWN (RetryInfo; the command may or may not have taken effect:
   *   retry with the same `request_id`). UNAVAILABLE without details means that the connection broke: treat it as OUTCOME_UNKNOWN
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (treat it as OUTCOME_UNKNOWN)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static abstract class OrderCommandServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return OrderCommandServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service OrderCommandService.
   * <pre>
   * Changes orders. A command is atomic: either all of its events are appended to the log, or none.
   * Idempotency: a command with a `request_id` takes effect at most once, on any node and for the lifetime of its order. A retry with the
   * same id and payload (`actor` may differ) returns the first reply. Without a `request_id` a command is not safe to retry. Where the service
   * identifies its callers, a `request_id` belongs to its caller: the same id of two callers is two requests.
   * Consistency: a command decides on the current state of its order, and a success is sent only once the event store has acknowledged
   * the commit. A query given the returned `consistency_token` sees the command, on any node.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: ORDER_NOT_FOUND (also for an order of another customer, if the caller is a customer)
   * - PERMISSION_DENIED: ROLE_MISSING, CUSTOMER_NOT_ALLOWED (a customer places orders with its own customer id only), ACTOR_NOT_ALLOWED (the caller may not act
   *   for others)
   * - FAILED_PRECONDITION: ILLEGAL_TRANSITION (the order's status does not allow the command; PreconditionFailure)
   * - ABORTED: REVISION_CONFLICT (the order is not at `expected_revision`), CONTENTION (concurrent commands for the same order kept
   *   winning; RetryInfo)
   * - ALREADY_EXISTS: REQUEST_ID_REUSED (the `request_id` was used before with another payload)
   * - RESOURCE_EXHAUSTED: OVERLOADED, STORE_FULL (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo), OUTCOME_UNKNOWN (RetryInfo; the command may or may not have taken effect:
   *   retry with the same `request_id`). UNAVAILABLE without details means that the connection broke: treat it as OUTCOME_UNKNOWN
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (treat it as OUTCOME_UNKNOWN)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderCommandServiceStub
      extends io.grpc.stub.AbstractAsyncStub<OrderCommandServiceStub> {
    private OrderCommandServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderCommandServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderCommandServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Places an order. The service assigns the order id. Without a `request_id`, a retry may place a second order.
     * </pre>
     */
    public void createOrder(com.catga.orders.v1.CreateOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.CreateOrderResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCreateOrderMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Pays a pending order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public void payOrder(com.catga.orders.v1.PayOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.PayOrderResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getPayOrderMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Ships a paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public void shipOrder(com.catga.orders.v1.ShipOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.ShipOrderResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getShipOrderMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Marks a shipped order as delivered. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public void deliverOrder(com.catga.orders.v1.DeliverOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.DeliverOrderResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeliverOrderMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Cancels a pending or paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public void cancelOrder(com.catga.orders.v1.CancelOrderRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.CancelOrderResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCancelOrderMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Runs many commands over one call, for bulk loading. Each command gets one reply with its correlation id: a success, or the error that
     * the unary call would return. A failed command does not end the call. Commands for the same order run one after the other, in the
     * order in which they were sent; commands for different orders run concurrently, so their replies may arrive in any order. While the
     * client does not read replies, the server stops reading commands.
     * </pre>
     */
    public io.grpc.stub.StreamObserver<com.catga.orders.v1.ExecuteCommandsRequest> executeCommands(
        io.grpc.stub.StreamObserver<com.catga.orders.v1.ExecuteCommandsResponse> responseObserver) {
      return io.grpc.stub.ClientCalls.asyncBidiStreamingCall(
          getChannel().newCall(getExecuteCommandsMethod(), getCallOptions()), responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service OrderCommandService.
   * <pre>
   * Changes orders. A command is atomic: either all of its events are appended to the log, or none.
   * Idempotency: a command with a `request_id` takes effect at most once, on any node and for the lifetime of its order. A retry with the
   * same id and payload (`actor` may differ) returns the first reply. Without a `request_id` a command is not safe to retry. Where the service
   * identifies its callers, a `request_id` belongs to its caller: the same id of two callers is two requests.
   * Consistency: a command decides on the current state of its order, and a success is sent only once the event store has acknowledged
   * the commit. A query given the returned `consistency_token` sees the command, on any node.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: ORDER_NOT_FOUND (also for an order of another customer, if the caller is a customer)
   * - PERMISSION_DENIED: ROLE_MISSING, CUSTOMER_NOT_ALLOWED (a customer places orders with its own customer id only), ACTOR_NOT_ALLOWED (the caller may not act
   *   for others)
   * - FAILED_PRECONDITION: ILLEGAL_TRANSITION (the order's status does not allow the command; PreconditionFailure)
   * - ABORTED: REVISION_CONFLICT (the order is not at `expected_revision`), CONTENTION (concurrent commands for the same order kept
   *   winning; RetryInfo)
   * - ALREADY_EXISTS: REQUEST_ID_REUSED (the `request_id` was used before with another payload)
   * - RESOURCE_EXHAUSTED: OVERLOADED, STORE_FULL (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo), OUTCOME_UNKNOWN (RetryInfo; the command may or may not have taken effect:
   *   retry with the same `request_id`). UNAVAILABLE without details means that the connection broke: treat it as OUTCOME_UNKNOWN
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (treat it as OUTCOME_UNKNOWN)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderCommandServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<OrderCommandServiceBlockingV2Stub> {
    private OrderCommandServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderCommandServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderCommandServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Places an order. The service assigns the order id. Without a `request_id`, a retry may place a second order.
     * </pre>
     */
    public com.catga.orders.v1.CreateOrderResponse createOrder(com.catga.orders.v1.CreateOrderRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCreateOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Pays a pending order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.catga.orders.v1.PayOrderResponse payOrder(com.catga.orders.v1.PayOrderRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getPayOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ships a paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.catga.orders.v1.ShipOrderResponse shipOrder(com.catga.orders.v1.ShipOrderRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getShipOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Marks a shipped order as delivered. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.catga.orders.v1.DeliverOrderResponse deliverOrder(com.catga.orders.v1.DeliverOrderRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDeliverOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Cancels a pending or paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.catga.orders.v1.CancelOrderResponse cancelOrder(com.catga.orders.v1.CancelOrderRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCancelOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Runs many commands over one call, for bulk loading. Each command gets one reply with its correlation id: a success, or the error that
     * the unary call would return. A failed command does not end the call. Commands for the same order run one after the other, in the
     * order in which they were sent; commands for different orders run concurrently, so their replies may arrive in any order. While the
     * client does not read replies, the server stops reading commands.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<com.catga.orders.v1.ExecuteCommandsRequest, com.catga.orders.v1.ExecuteCommandsResponse>
        executeCommands() {
      return io.grpc.stub.ClientCalls.blockingBidiStreamingCall(
          getChannel(), getExecuteCommandsMethod(), getCallOptions());
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service OrderCommandService.
   * <pre>
   * Changes orders. A command is atomic: either all of its events are appended to the log, or none.
   * Idempotency: a command with a `request_id` takes effect at most once, on any node and for the lifetime of its order. A retry with the
   * same id and payload (`actor` may differ) returns the first reply. Without a `request_id` a command is not safe to retry. Where the service
   * identifies its callers, a `request_id` belongs to its caller: the same id of two callers is two requests.
   * Consistency: a command decides on the current state of its order, and a success is sent only once the event store has acknowledged
   * the commit. A query given the returned `consistency_token` sees the command, on any node.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: ORDER_NOT_FOUND (also for an order of another customer, if the caller is a customer)
   * - PERMISSION_DENIED: ROLE_MISSING, CUSTOMER_NOT_ALLOWED (a customer places orders with its own customer id only), ACTOR_NOT_ALLOWED (the caller may not act
   *   for others)
   * - FAILED_PRECONDITION: ILLEGAL_TRANSITION (the order's status does not allow the command; PreconditionFailure)
   * - ABORTED: REVISION_CONFLICT (the order is not at `expected_revision`), CONTENTION (concurrent commands for the same order kept
   *   winning; RetryInfo)
   * - ALREADY_EXISTS: REQUEST_ID_REUSED (the `request_id` was used before with another payload)
   * - RESOURCE_EXHAUSTED: OVERLOADED, STORE_FULL (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo), OUTCOME_UNKNOWN (RetryInfo; the command may or may not have taken effect:
   *   retry with the same `request_id`). UNAVAILABLE without details means that the connection broke: treat it as OUTCOME_UNKNOWN
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (treat it as OUTCOME_UNKNOWN)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderCommandServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<OrderCommandServiceBlockingStub> {
    private OrderCommandServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderCommandServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderCommandServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Places an order. The service assigns the order id. Without a `request_id`, a retry may place a second order.
     * </pre>
     */
    public com.catga.orders.v1.CreateOrderResponse createOrder(com.catga.orders.v1.CreateOrderRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCreateOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Pays a pending order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.catga.orders.v1.PayOrderResponse payOrder(com.catga.orders.v1.PayOrderRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getPayOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ships a paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.catga.orders.v1.ShipOrderResponse shipOrder(com.catga.orders.v1.ShipOrderRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getShipOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Marks a shipped order as delivered. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.catga.orders.v1.DeliverOrderResponse deliverOrder(com.catga.orders.v1.DeliverOrderRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeliverOrderMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Cancels a pending or paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.catga.orders.v1.CancelOrderResponse cancelOrder(com.catga.orders.v1.CancelOrderRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCancelOrderMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service OrderCommandService.
   * <pre>
   * Changes orders. A command is atomic: either all of its events are appended to the log, or none.
   * Idempotency: a command with a `request_id` takes effect at most once, on any node and for the lifetime of its order. A retry with the
   * same id and payload (`actor` may differ) returns the first reply. Without a `request_id` a command is not safe to retry. Where the service
   * identifies its callers, a `request_id` belongs to its caller: the same id of two callers is two requests.
   * Consistency: a command decides on the current state of its order, and a success is sent only once the event store has acknowledged
   * the commit. A query given the returned `consistency_token` sees the command, on any node.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: ORDER_NOT_FOUND (also for an order of another customer, if the caller is a customer)
   * - PERMISSION_DENIED: ROLE_MISSING, CUSTOMER_NOT_ALLOWED (a customer places orders with its own customer id only), ACTOR_NOT_ALLOWED (the caller may not act
   *   for others)
   * - FAILED_PRECONDITION: ILLEGAL_TRANSITION (the order's status does not allow the command; PreconditionFailure)
   * - ABORTED: REVISION_CONFLICT (the order is not at `expected_revision`), CONTENTION (concurrent commands for the same order kept
   *   winning; RetryInfo)
   * - ALREADY_EXISTS: REQUEST_ID_REUSED (the `request_id` was used before with another payload)
   * - RESOURCE_EXHAUSTED: OVERLOADED, STORE_FULL (RetryInfo), MESSAGE_TOO_LARGE
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo), OUTCOME_UNKNOWN (RetryInfo; the command may or may not have taken effect:
   *   retry with the same `request_id`). UNAVAILABLE without details means that the connection broke: treat it as OUTCOME_UNKNOWN
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (treat it as OUTCOME_UNKNOWN)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderCommandServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<OrderCommandServiceFutureStub> {
    private OrderCommandServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderCommandServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderCommandServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Places an order. The service assigns the order id. Without a `request_id`, a retry may place a second order.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.CreateOrderResponse> createOrder(
        com.catga.orders.v1.CreateOrderRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCreateOrderMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Pays a pending order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.PayOrderResponse> payOrder(
        com.catga.orders.v1.PayOrderRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getPayOrderMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Ships a paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.ShipOrderResponse> shipOrder(
        com.catga.orders.v1.ShipOrderRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getShipOrderMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Marks a shipped order as delivered. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.DeliverOrderResponse> deliverOrder(
        com.catga.orders.v1.DeliverOrderRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeliverOrderMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Cancels a pending or paid order. ILLEGAL_TRANSITION in any other status.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.orders.v1.CancelOrderResponse> cancelOrder(
        com.catga.orders.v1.CancelOrderRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCancelOrderMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_CREATE_ORDER = 0;
  private static final int METHODID_PAY_ORDER = 1;
  private static final int METHODID_SHIP_ORDER = 2;
  private static final int METHODID_DELIVER_ORDER = 3;
  private static final int METHODID_CANCEL_ORDER = 4;
  private static final int METHODID_EXECUTE_COMMANDS = 5;

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
        case METHODID_CREATE_ORDER:
          serviceImpl.createOrder((com.catga.orders.v1.CreateOrderRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.CreateOrderResponse>) responseObserver);
          break;
        case METHODID_PAY_ORDER:
          serviceImpl.payOrder((com.catga.orders.v1.PayOrderRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.PayOrderResponse>) responseObserver);
          break;
        case METHODID_SHIP_ORDER:
          serviceImpl.shipOrder((com.catga.orders.v1.ShipOrderRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.ShipOrderResponse>) responseObserver);
          break;
        case METHODID_DELIVER_ORDER:
          serviceImpl.deliverOrder((com.catga.orders.v1.DeliverOrderRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.DeliverOrderResponse>) responseObserver);
          break;
        case METHODID_CANCEL_ORDER:
          serviceImpl.cancelOrder((com.catga.orders.v1.CancelOrderRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.CancelOrderResponse>) responseObserver);
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
        case METHODID_EXECUTE_COMMANDS:
          return (io.grpc.stub.StreamObserver<Req>) serviceImpl.executeCommands(
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.ExecuteCommandsResponse>) responseObserver);
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getCreateOrderMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.CreateOrderRequest,
              com.catga.orders.v1.CreateOrderResponse>(
                service, METHODID_CREATE_ORDER)))
        .addMethod(
          getPayOrderMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.PayOrderRequest,
              com.catga.orders.v1.PayOrderResponse>(
                service, METHODID_PAY_ORDER)))
        .addMethod(
          getShipOrderMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.ShipOrderRequest,
              com.catga.orders.v1.ShipOrderResponse>(
                service, METHODID_SHIP_ORDER)))
        .addMethod(
          getDeliverOrderMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.DeliverOrderRequest,
              com.catga.orders.v1.DeliverOrderResponse>(
                service, METHODID_DELIVER_ORDER)))
        .addMethod(
          getCancelOrderMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.orders.v1.CancelOrderRequest,
              com.catga.orders.v1.CancelOrderResponse>(
                service, METHODID_CANCEL_ORDER)))
        .addMethod(
          getExecuteCommandsMethod(),
          io.grpc.stub.ServerCalls.asyncBidiStreamingCall(
            new MethodHandlers<
              com.catga.orders.v1.ExecuteCommandsRequest,
              com.catga.orders.v1.ExecuteCommandsResponse>(
                service, METHODID_EXECUTE_COMMANDS)))
        .build();
  }

  private static abstract class OrderCommandServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    OrderCommandServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return com.catga.orders.v1.CommandsProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("OrderCommandService");
    }
  }

  private static final class OrderCommandServiceFileDescriptorSupplier
      extends OrderCommandServiceBaseDescriptorSupplier {
    OrderCommandServiceFileDescriptorSupplier() {}
  }

  private static final class OrderCommandServiceMethodDescriptorSupplier
      extends OrderCommandServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    OrderCommandServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (OrderCommandServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new OrderCommandServiceFileDescriptorSupplier())
              .addMethod(getCreateOrderMethod())
              .addMethod(getPayOrderMethod())
              .addMethod(getShipOrderMethod())
              .addMethod(getDeliverOrderMethod())
              .addMethod(getCancelOrderMethod())
              .addMethod(getExecuteCommandsMethod())
              .build();
        }
      }
    }
    return result;
  }
}
