package com.catga.orders.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Streams events in order, without gaps and without duplicates. Streams have no side effects and are safe to reopen.
 * Resuming: when a stream ends with UNAVAILABLE or RESOURCE_EXHAUSTED, or its connection breaks, reopen it after the last cursor or
 * revision received, on any node; no event is skipped or repeated. A client may read slowly, since events are then read from the log at
 * its pace, but a stream whose client accepts nothing for 60 s ends with OVERLOADED.
 * Customers: a caller with the role of a customer is sent the events of its own customer id only, and for it the orders of others do not exist.
 * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
 * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the cursor was issued by
 *   another event log, or the log lost events, also while it is streamed: start over without the cursor)
 * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer names itself only in `customer_ids`)
 * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the revision before `from_revision`)
 * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many open streams, or the client does not read)
 * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
 * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (the deadline that the client set)
 * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class OrderHistoryServiceGrpc {

  private OrderHistoryServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "catga.orders.v1.OrderHistoryService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.StreamOrderHistoryRequest,
      com.catga.orders.v1.StreamOrderHistoryResponse> getStreamOrderHistoryMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "StreamOrderHistory",
      requestType = com.catga.orders.v1.StreamOrderHistoryRequest.class,
      responseType = com.catga.orders.v1.StreamOrderHistoryResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.StreamOrderHistoryRequest,
      com.catga.orders.v1.StreamOrderHistoryResponse> getStreamOrderHistoryMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.StreamOrderHistoryRequest, com.catga.orders.v1.StreamOrderHistoryResponse> getStreamOrderHistoryMethod;
    if ((getStreamOrderHistoryMethod = OrderHistoryServiceGrpc.getStreamOrderHistoryMethod) == null) {
      synchronized (OrderHistoryServiceGrpc.class) {
        if ((getStreamOrderHistoryMethod = OrderHistoryServiceGrpc.getStreamOrderHistoryMethod) == null) {
          OrderHistoryServiceGrpc.getStreamOrderHistoryMethod = getStreamOrderHistoryMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.StreamOrderHistoryRequest, com.catga.orders.v1.StreamOrderHistoryResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "StreamOrderHistory"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.StreamOrderHistoryRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.StreamOrderHistoryResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderHistoryServiceMethodDescriptorSupplier("StreamOrderHistory"))
              .build();
        }
      }
    }
    return getStreamOrderHistoryMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.orders.v1.StreamEventsRequest,
      com.catga.orders.v1.StreamEventsResponse> getStreamEventsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "StreamEvents",
      requestType = com.catga.orders.v1.StreamEventsRequest.class,
      responseType = com.catga.orders.v1.StreamEventsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<com.catga.orders.v1.StreamEventsRequest,
      com.catga.orders.v1.StreamEventsResponse> getStreamEventsMethod() {
    io.grpc.MethodDescriptor<com.catga.orders.v1.StreamEventsRequest, com.catga.orders.v1.StreamEventsResponse> getStreamEventsMethod;
    if ((getStreamEventsMethod = OrderHistoryServiceGrpc.getStreamEventsMethod) == null) {
      synchronized (OrderHistoryServiceGrpc.class) {
        if ((getStreamEventsMethod = OrderHistoryServiceGrpc.getStreamEventsMethod) == null) {
          OrderHistoryServiceGrpc.getStreamEventsMethod = getStreamEventsMethod =
              io.grpc.MethodDescriptor.<com.catga.orders.v1.StreamEventsRequest, com.catga.orders.v1.StreamEventsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "StreamEvents"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.StreamEventsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.orders.v1.StreamEventsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new OrderHistoryServiceMethodDescriptorSupplier("StreamEvents"))
              .build();
        }
      }
    }
    return getStreamEventsMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static OrderHistoryServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderHistoryServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderHistoryServiceStub>() {
        @java.lang.Override
        public OrderHistoryServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderHistoryServiceStub(channel, callOptions);
        }
      };
    return OrderHistoryServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static OrderHistoryServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderHistoryServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderHistoryServiceBlockingV2Stub>() {
        @java.lang.Override
        public OrderHistoryServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderHistoryServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return OrderHistoryServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static OrderHistoryServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderHistoryServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderHistoryServiceBlockingStub>() {
        @java.lang.Override
        public OrderHistoryServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderHistoryServiceBlockingStub(channel, callOptions);
        }
      };
    return OrderHistoryServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static OrderHistoryServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<OrderHistoryServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<OrderHistoryServiceFutureStub>() {
        @java.lang.Override
        public OrderHistoryServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new OrderHistoryServiceFutureStub(channel, callOptions);
        }
      };
    return OrderHistoryServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Streams events in order, without gaps and without duplicates. Streams have no side effects and are safe to reopen.
   * Resuming: when a stream ends with UNAVAILABLE or RESOURCE_EXHAUSTED, or its connection breaks, reopen it after the last cursor or
   * revision received, on any node; no event is skipped or repeated. A client may read slowly, since events are then read from the log at
   * its pace, but a stream whose client accepts nothing for 60 s ends with OVERLOADED.
   * Customers: a caller with the role of a customer is sent the events of its own customer id only, and for it the orders of others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the cursor was issued by
   *   another event log, or the log lost events, also while it is streamed: start over without the cursor)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer names itself only in `customer_ids`)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the revision before `from_revision`)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many open streams, or the client does not read)
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (the deadline that the client set)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Streams the events of one order, by revision. Without `follow` the stream ends after the last event.
     * </pre>
     */
    default void streamOrderHistory(com.catga.orders.v1.StreamOrderHistoryRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.StreamOrderHistoryResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStreamOrderHistoryMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams the events of all orders, in commit order. Without `follow` the stream ends after the last event.
     * </pre>
     */
    default void streamEvents(com.catga.orders.v1.StreamEventsRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.StreamEventsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStreamEventsMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service OrderHistoryService.
   * <pre>
   * Streams events in order, without gaps and without duplicates. Streams have no side effects and are safe to reopen.
   * Resuming: when a stream ends with UNAVAILABLE or RESOURCE_EXHAUSTED, or its connection breaks, reopen it after the last cursor or
   * revision received, on any node; no event is skipped or repeated. A client may read slowly, since events are then read from the log at
   * its pace, but a stream whose client accepts nothing for 60 s ends with OVERLOADED.
   * Customers: a caller with the role of a customer is sent the events of its own customer id only, and for it the orders of others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the cursor was issued by
   *   another event log, or the log lost events, also while it is streamed: start over without the cursor)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer names itself only in `customer_ids`)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the revision before `from_revision`)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many open streams, or the client does not read)
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (the deadline that the client set)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static abstract class OrderHistoryServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return OrderHistoryServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service OrderHistoryService.
   * <pre>
   * Streams events in order, without gaps and without duplicates. Streams have no side effects and are safe to reopen.
   * Resuming: when a stream ends with UNAVAILABLE or RESOURCE_EXHAUSTED, or its connection breaks, reopen it after the last cursor or
   * revision received, on any node; no event is skipped or repeated. A client may read slowly, since events are then read from the log at
   * its pace, but a stream whose client accepts nothing for 60 s ends with OVERLOADED.
   * Customers: a caller with the role of a customer is sent the events of its own customer id only, and for it the orders of others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the cursor was issued by
   *   another event log, or the log lost events, also while it is streamed: start over without the cursor)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer names itself only in `customer_ids`)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the revision before `from_revision`)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many open streams, or the client does not read)
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (the deadline that the client set)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderHistoryServiceStub
      extends io.grpc.stub.AbstractAsyncStub<OrderHistoryServiceStub> {
    private OrderHistoryServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderHistoryServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderHistoryServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Streams the events of one order, by revision. Without `follow` the stream ends after the last event.
     * </pre>
     */
    public void streamOrderHistory(com.catga.orders.v1.StreamOrderHistoryRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.StreamOrderHistoryResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getStreamOrderHistoryMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams the events of all orders, in commit order. Without `follow` the stream ends after the last event.
     * </pre>
     */
    public void streamEvents(com.catga.orders.v1.StreamEventsRequest request,
        io.grpc.stub.StreamObserver<com.catga.orders.v1.StreamEventsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getStreamEventsMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service OrderHistoryService.
   * <pre>
   * Streams events in order, without gaps and without duplicates. Streams have no side effects and are safe to reopen.
   * Resuming: when a stream ends with UNAVAILABLE or RESOURCE_EXHAUSTED, or its connection breaks, reopen it after the last cursor or
   * revision received, on any node; no event is skipped or repeated. A client may read slowly, since events are then read from the log at
   * its pace, but a stream whose client accepts nothing for 60 s ends with OVERLOADED.
   * Customers: a caller with the role of a customer is sent the events of its own customer id only, and for it the orders of others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the cursor was issued by
   *   another event log, or the log lost events, also while it is streamed: start over without the cursor)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer names itself only in `customer_ids`)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the revision before `from_revision`)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many open streams, or the client does not read)
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (the deadline that the client set)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderHistoryServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<OrderHistoryServiceBlockingV2Stub> {
    private OrderHistoryServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderHistoryServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderHistoryServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Streams the events of one order, by revision. Without `follow` the stream ends after the last event.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, com.catga.orders.v1.StreamOrderHistoryResponse>
        streamOrderHistory(com.catga.orders.v1.StreamOrderHistoryRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getStreamOrderHistoryMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams the events of all orders, in commit order. Without `follow` the stream ends after the last event.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, com.catga.orders.v1.StreamEventsResponse>
        streamEvents(com.catga.orders.v1.StreamEventsRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getStreamEventsMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service OrderHistoryService.
   * <pre>
   * Streams events in order, without gaps and without duplicates. Streams have no side effects and are safe to reopen.
   * Resuming: when a stream ends with UNAVAILABLE or RESOURCE_EXHAUSTED, or its connection breaks, reopen it after the last cursor or
   * revision received, on any node; no event is skipped or repeated. A client may read slowly, since events are then read from the log at
   * its pace, but a stream whose client accepts nothing for 60 s ends with OVERLOADED.
   * Customers: a caller with the role of a customer is sent the events of its own customer id only, and for it the orders of others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the cursor was issued by
   *   another event log, or the log lost events, also while it is streamed: start over without the cursor)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer names itself only in `customer_ids`)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the revision before `from_revision`)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many open streams, or the client does not read)
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (the deadline that the client set)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderHistoryServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<OrderHistoryServiceBlockingStub> {
    private OrderHistoryServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderHistoryServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderHistoryServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Streams the events of one order, by revision. Without `follow` the stream ends after the last event.
     * </pre>
     */
    public java.util.Iterator<com.catga.orders.v1.StreamOrderHistoryResponse> streamOrderHistory(
        com.catga.orders.v1.StreamOrderHistoryRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getStreamOrderHistoryMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams the events of all orders, in commit order. Without `follow` the stream ends after the last event.
     * </pre>
     */
    public java.util.Iterator<com.catga.orders.v1.StreamEventsResponse> streamEvents(
        com.catga.orders.v1.StreamEventsRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getStreamEventsMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service OrderHistoryService.
   * <pre>
   * Streams events in order, without gaps and without duplicates. Streams have no side effects and are safe to reopen.
   * Resuming: when a stream ends with UNAVAILABLE or RESOURCE_EXHAUSTED, or its connection breaks, reopen it after the last cursor or
   * revision received, on any node; no event is skipped or repeated. A client may read slowly, since events are then read from the log at
   * its pace, but a stream whose client accepts nothing for 60 s ends with OVERLOADED.
   * Customers: a caller with the role of a customer is sent the events of its own customer id only, and for it the orders of others do not exist.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field), CURSOR_OF_ANOTHER_LOG (the cursor was issued by
   *   another event log, or the log lost events, also while it is streamed: start over without the cursor)
   * - PERMISSION_DENIED: CUSTOMER_NOT_ALLOWED (a customer names itself only in `customer_ids`)
   * - NOT_FOUND: ORDER_NOT_FOUND, NOT_YET_THEN (the order has not reached the revision before `from_revision`)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many open streams, or the client does not read)
   * - UNAVAILABLE: UNAVAILABLE, SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED (the deadline that the client set)
   * - DATA_LOSS: DATA_CORRUPT; INTERNAL: INTERNAL (a retry does not help)
   * </pre>
   */
  public static final class OrderHistoryServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<OrderHistoryServiceFutureStub> {
    private OrderHistoryServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected OrderHistoryServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new OrderHistoryServiceFutureStub(channel, callOptions);
    }
  }

  private static final int METHODID_STREAM_ORDER_HISTORY = 0;
  private static final int METHODID_STREAM_EVENTS = 1;

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
        case METHODID_STREAM_ORDER_HISTORY:
          serviceImpl.streamOrderHistory((com.catga.orders.v1.StreamOrderHistoryRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.StreamOrderHistoryResponse>) responseObserver);
          break;
        case METHODID_STREAM_EVENTS:
          serviceImpl.streamEvents((com.catga.orders.v1.StreamEventsRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.orders.v1.StreamEventsResponse>) responseObserver);
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
          getStreamOrderHistoryMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              com.catga.orders.v1.StreamOrderHistoryRequest,
              com.catga.orders.v1.StreamOrderHistoryResponse>(
                service, METHODID_STREAM_ORDER_HISTORY)))
        .addMethod(
          getStreamEventsMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              com.catga.orders.v1.StreamEventsRequest,
              com.catga.orders.v1.StreamEventsResponse>(
                service, METHODID_STREAM_EVENTS)))
        .build();
  }

  private static abstract class OrderHistoryServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    OrderHistoryServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return com.catga.orders.v1.HistoryProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("OrderHistoryService");
    }
  }

  private static final class OrderHistoryServiceFileDescriptorSupplier
      extends OrderHistoryServiceBaseDescriptorSupplier {
    OrderHistoryServiceFileDescriptorSupplier() {}
  }

  private static final class OrderHistoryServiceMethodDescriptorSupplier
      extends OrderHistoryServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    OrderHistoryServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (OrderHistoryServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new OrderHistoryServiceFileDescriptorSupplier())
              .addMethod(getStreamOrderHistoryMethod())
              .addMethod(getStreamEventsMethod())
              .build();
        }
      }
    }
    return result;
  }
}
