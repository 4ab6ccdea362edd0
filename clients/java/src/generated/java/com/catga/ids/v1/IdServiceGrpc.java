package com.catga.ids.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Generates and parses Snowflake ids.
 * An id has 63 bits: 41 bits of milliseconds since 2024-01-01T00:00:00Z, 5 of datacenter, 5 of worker, 12 of sequence. A node issues at
 * most 4 096 000 ids per second. All calls are safe to retry: ids that were issued to a failed call are lost, and never issued again.
 * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
 * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
 * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many concurrent calls)
 * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the clock of the node is behind ids that may have been issued, the node has no worker number, or
 *   its ids of the moment are used up), SHUTTING_DOWN (RetryInfo)
 * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class IdServiceGrpc {

  private IdServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "catga.ids.v1.IdService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<com.catga.ids.v1.GenerateIdRequest,
      com.catga.ids.v1.GenerateIdResponse> getGenerateIdMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GenerateId",
      requestType = com.catga.ids.v1.GenerateIdRequest.class,
      responseType = com.catga.ids.v1.GenerateIdResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.ids.v1.GenerateIdRequest,
      com.catga.ids.v1.GenerateIdResponse> getGenerateIdMethod() {
    io.grpc.MethodDescriptor<com.catga.ids.v1.GenerateIdRequest, com.catga.ids.v1.GenerateIdResponse> getGenerateIdMethod;
    if ((getGenerateIdMethod = IdServiceGrpc.getGenerateIdMethod) == null) {
      synchronized (IdServiceGrpc.class) {
        if ((getGenerateIdMethod = IdServiceGrpc.getGenerateIdMethod) == null) {
          IdServiceGrpc.getGenerateIdMethod = getGenerateIdMethod =
              io.grpc.MethodDescriptor.<com.catga.ids.v1.GenerateIdRequest, com.catga.ids.v1.GenerateIdResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GenerateId"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.ids.v1.GenerateIdRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.ids.v1.GenerateIdResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdServiceMethodDescriptorSupplier("GenerateId"))
              .build();
        }
      }
    }
    return getGenerateIdMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.ids.v1.GenerateIdsRequest,
      com.catga.ids.v1.GenerateIdsResponse> getGenerateIdsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GenerateIds",
      requestType = com.catga.ids.v1.GenerateIdsRequest.class,
      responseType = com.catga.ids.v1.GenerateIdsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.ids.v1.GenerateIdsRequest,
      com.catga.ids.v1.GenerateIdsResponse> getGenerateIdsMethod() {
    io.grpc.MethodDescriptor<com.catga.ids.v1.GenerateIdsRequest, com.catga.ids.v1.GenerateIdsResponse> getGenerateIdsMethod;
    if ((getGenerateIdsMethod = IdServiceGrpc.getGenerateIdsMethod) == null) {
      synchronized (IdServiceGrpc.class) {
        if ((getGenerateIdsMethod = IdServiceGrpc.getGenerateIdsMethod) == null) {
          IdServiceGrpc.getGenerateIdsMethod = getGenerateIdsMethod =
              io.grpc.MethodDescriptor.<com.catga.ids.v1.GenerateIdsRequest, com.catga.ids.v1.GenerateIdsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GenerateIds"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.ids.v1.GenerateIdsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.ids.v1.GenerateIdsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdServiceMethodDescriptorSupplier("GenerateIds"))
              .build();
        }
      }
    }
    return getGenerateIdsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.ids.v1.StreamIdsRequest,
      com.catga.ids.v1.StreamIdsResponse> getStreamIdsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "StreamIds",
      requestType = com.catga.ids.v1.StreamIdsRequest.class,
      responseType = com.catga.ids.v1.StreamIdsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<com.catga.ids.v1.StreamIdsRequest,
      com.catga.ids.v1.StreamIdsResponse> getStreamIdsMethod() {
    io.grpc.MethodDescriptor<com.catga.ids.v1.StreamIdsRequest, com.catga.ids.v1.StreamIdsResponse> getStreamIdsMethod;
    if ((getStreamIdsMethod = IdServiceGrpc.getStreamIdsMethod) == null) {
      synchronized (IdServiceGrpc.class) {
        if ((getStreamIdsMethod = IdServiceGrpc.getStreamIdsMethod) == null) {
          IdServiceGrpc.getStreamIdsMethod = getStreamIdsMethod =
              io.grpc.MethodDescriptor.<com.catga.ids.v1.StreamIdsRequest, com.catga.ids.v1.StreamIdsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "StreamIds"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.ids.v1.StreamIdsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.ids.v1.StreamIdsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdServiceMethodDescriptorSupplier("StreamIds"))
              .build();
        }
      }
    }
    return getStreamIdsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.ids.v1.ParseIdRequest,
      com.catga.ids.v1.ParseIdResponse> getParseIdMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ParseId",
      requestType = com.catga.ids.v1.ParseIdRequest.class,
      responseType = com.catga.ids.v1.ParseIdResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.ids.v1.ParseIdRequest,
      com.catga.ids.v1.ParseIdResponse> getParseIdMethod() {
    io.grpc.MethodDescriptor<com.catga.ids.v1.ParseIdRequest, com.catga.ids.v1.ParseIdResponse> getParseIdMethod;
    if ((getParseIdMethod = IdServiceGrpc.getParseIdMethod) == null) {
      synchronized (IdServiceGrpc.class) {
        if ((getParseIdMethod = IdServiceGrpc.getParseIdMethod) == null) {
          IdServiceGrpc.getParseIdMethod = getParseIdMethod =
              io.grpc.MethodDescriptor.<com.catga.ids.v1.ParseIdRequest, com.catga.ids.v1.ParseIdResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ParseId"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.ids.v1.ParseIdRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.ids.v1.ParseIdResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdServiceMethodDescriptorSupplier("ParseId"))
              .build();
        }
      }
    }
    return getParseIdMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static IdServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<IdServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<IdServiceStub>() {
        @java.lang.Override
        public IdServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new IdServiceStub(channel, callOptions);
        }
      };
    return IdServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static IdServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<IdServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<IdServiceBlockingV2Stub>() {
        @java.lang.Override
        public IdServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new IdServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return IdServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static IdServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<IdServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<IdServiceBlockingStub>() {
        @java.lang.Override
        public IdServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new IdServiceBlockingStub(channel, callOptions);
        }
      };
    return IdServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static IdServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<IdServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<IdServiceFutureStub>() {
        @java.lang.Override
        public IdServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new IdServiceFutureStub(channel, callOptions);
        }
      };
    return IdServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Generates and parses Snowflake ids.
   * An id has 63 bits: 41 bits of milliseconds since 2024-01-01T00:00:00Z, 5 of datacenter, 5 of worker, 12 of sequence. A node issues at
   * most 4 096 000 ids per second. All calls are safe to retry: ids that were issued to a failed call are lost, and never issued again.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many concurrent calls)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the clock of the node is behind ids that may have been issued, the node has no worker number, or
   *   its ids of the moment are used up), SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Generates one id.
     * </pre>
     */
    default void generateId(com.catga.ids.v1.GenerateIdRequest request,
        io.grpc.stub.StreamObserver<com.catga.ids.v1.GenerateIdResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGenerateIdMethod(), responseObserver);
    }

    /**
     * <pre>
     * Generates up to 100 000 ids in one reply.
     * </pre>
     */
    default void generateIds(com.catga.ids.v1.GenerateIdsRequest request,
        io.grpc.stub.StreamObserver<com.catga.ids.v1.GenerateIdsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGenerateIdsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Generates a stream of ids in batches, as fast as the client reads.
     * </pre>
     */
    default void streamIds(com.catga.ids.v1.StreamIdsRequest request,
        io.grpc.stub.StreamObserver<com.catga.ids.v1.StreamIdsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStreamIdsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Splits an id into its parts. Any node can parse any id; whether the id was ever issued is not checked.
     * </pre>
     */
    default void parseId(com.catga.ids.v1.ParseIdRequest request,
        io.grpc.stub.StreamObserver<com.catga.ids.v1.ParseIdResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getParseIdMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service IdService.
   * <pre>
   * Generates and parses Snowflake ids.
   * An id has 63 bits: 41 bits of milliseconds since 2024-01-01T00:00:00Z, 5 of datacenter, 5 of worker, 12 of sequence. A node issues at
   * most 4 096 000 ids per second. All calls are safe to retry: ids that were issued to a failed call are lost, and never issued again.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many concurrent calls)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the clock of the node is behind ids that may have been issued, the node has no worker number, or
   *   its ids of the moment are used up), SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED
   * </pre>
   */
  public static abstract class IdServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return IdServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service IdService.
   * <pre>
   * Generates and parses Snowflake ids.
   * An id has 63 bits: 41 bits of milliseconds since 2024-01-01T00:00:00Z, 5 of datacenter, 5 of worker, 12 of sequence. A node issues at
   * most 4 096 000 ids per second. All calls are safe to retry: ids that were issued to a failed call are lost, and never issued again.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many concurrent calls)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the clock of the node is behind ids that may have been issued, the node has no worker number, or
   *   its ids of the moment are used up), SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED
   * </pre>
   */
  public static final class IdServiceStub
      extends io.grpc.stub.AbstractAsyncStub<IdServiceStub> {
    private IdServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected IdServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new IdServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Generates one id.
     * </pre>
     */
    public void generateId(com.catga.ids.v1.GenerateIdRequest request,
        io.grpc.stub.StreamObserver<com.catga.ids.v1.GenerateIdResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGenerateIdMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Generates up to 100 000 ids in one reply.
     * </pre>
     */
    public void generateIds(com.catga.ids.v1.GenerateIdsRequest request,
        io.grpc.stub.StreamObserver<com.catga.ids.v1.GenerateIdsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGenerateIdsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Generates a stream of ids in batches, as fast as the client reads.
     * </pre>
     */
    public void streamIds(com.catga.ids.v1.StreamIdsRequest request,
        io.grpc.stub.StreamObserver<com.catga.ids.v1.StreamIdsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getStreamIdsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Splits an id into its parts. Any node can parse any id; whether the id was ever issued is not checked.
     * </pre>
     */
    public void parseId(com.catga.ids.v1.ParseIdRequest request,
        io.grpc.stub.StreamObserver<com.catga.ids.v1.ParseIdResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getParseIdMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service IdService.
   * <pre>
   * Generates and parses Snowflake ids.
   * An id has 63 bits: 41 bits of milliseconds since 2024-01-01T00:00:00Z, 5 of datacenter, 5 of worker, 12 of sequence. A node issues at
   * most 4 096 000 ids per second. All calls are safe to retry: ids that were issued to a failed call are lost, and never issued again.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many concurrent calls)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the clock of the node is behind ids that may have been issued, the node has no worker number, or
   *   its ids of the moment are used up), SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED
   * </pre>
   */
  public static final class IdServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<IdServiceBlockingV2Stub> {
    private IdServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected IdServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new IdServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Generates one id.
     * </pre>
     */
    public com.catga.ids.v1.GenerateIdResponse generateId(com.catga.ids.v1.GenerateIdRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGenerateIdMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Generates up to 100 000 ids in one reply.
     * </pre>
     */
    public com.catga.ids.v1.GenerateIdsResponse generateIds(com.catga.ids.v1.GenerateIdsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGenerateIdsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Generates a stream of ids in batches, as fast as the client reads.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, com.catga.ids.v1.StreamIdsResponse>
        streamIds(com.catga.ids.v1.StreamIdsRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getStreamIdsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Splits an id into its parts. Any node can parse any id; whether the id was ever issued is not checked.
     * </pre>
     */
    public com.catga.ids.v1.ParseIdResponse parseId(com.catga.ids.v1.ParseIdRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getParseIdMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service IdService.
   * <pre>
   * Generates and parses Snowflake ids.
   * An id has 63 bits: 41 bits of milliseconds since 2024-01-01T00:00:00Z, 5 of datacenter, 5 of worker, 12 of sequence. A node issues at
   * most 4 096 000 ids per second. All calls are safe to retry: ids that were issued to a failed call are lost, and never issued again.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many concurrent calls)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the clock of the node is behind ids that may have been issued, the node has no worker number, or
   *   its ids of the moment are used up), SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED
   * </pre>
   */
  public static final class IdServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<IdServiceBlockingStub> {
    private IdServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected IdServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new IdServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Generates one id.
     * </pre>
     */
    public com.catga.ids.v1.GenerateIdResponse generateId(com.catga.ids.v1.GenerateIdRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGenerateIdMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Generates up to 100 000 ids in one reply.
     * </pre>
     */
    public com.catga.ids.v1.GenerateIdsResponse generateIds(com.catga.ids.v1.GenerateIdsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGenerateIdsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Generates a stream of ids in batches, as fast as the client reads.
     * </pre>
     */
    public java.util.Iterator<com.catga.ids.v1.StreamIdsResponse> streamIds(
        com.catga.ids.v1.StreamIdsRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getStreamIdsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Splits an id into its parts. Any node can parse any id; whether the id was ever issued is not checked.
     * </pre>
     */
    public com.catga.ids.v1.ParseIdResponse parseId(com.catga.ids.v1.ParseIdRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getParseIdMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service IdService.
   * <pre>
   * Generates and parses Snowflake ids.
   * An id has 63 bits: 41 bits of milliseconds since 2024-01-01T00:00:00Z, 5 of datacenter, 5 of worker, 12 of sequence. A node issues at
   * most 4 096 000 ids per second. All calls are safe to retry: ids that were issued to a failed call are lost, and never issued again.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo; too many concurrent calls)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the clock of the node is behind ids that may have been issued, the node has no worker number, or
   *   its ids of the moment are used up), SHUTTING_DOWN (RetryInfo)
   * - DEADLINE_EXCEEDED: DEADLINE_EXCEEDED
   * </pre>
   */
  public static final class IdServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<IdServiceFutureStub> {
    private IdServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected IdServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new IdServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Generates one id.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.ids.v1.GenerateIdResponse> generateId(
        com.catga.ids.v1.GenerateIdRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGenerateIdMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Generates up to 100 000 ids in one reply.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.ids.v1.GenerateIdsResponse> generateIds(
        com.catga.ids.v1.GenerateIdsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGenerateIdsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Splits an id into its parts. Any node can parse any id; whether the id was ever issued is not checked.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.ids.v1.ParseIdResponse> parseId(
        com.catga.ids.v1.ParseIdRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getParseIdMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_GENERATE_ID = 0;
  private static final int METHODID_GENERATE_IDS = 1;
  private static final int METHODID_STREAM_IDS = 2;
  private static final int METHODID_PARSE_ID = 3;

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
        case METHODID_GENERATE_ID:
          serviceImpl.generateId((com.catga.ids.v1.GenerateIdRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.ids.v1.GenerateIdResponse>) responseObserver);
          break;
        case METHODID_GENERATE_IDS:
          serviceImpl.generateIds((com.catga.ids.v1.GenerateIdsRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.ids.v1.GenerateIdsResponse>) responseObserver);
          break;
        case METHODID_STREAM_IDS:
          serviceImpl.streamIds((com.catga.ids.v1.StreamIdsRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.ids.v1.StreamIdsResponse>) responseObserver);
          break;
        case METHODID_PARSE_ID:
          serviceImpl.parseId((com.catga.ids.v1.ParseIdRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.ids.v1.ParseIdResponse>) responseObserver);
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
          getGenerateIdMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.ids.v1.GenerateIdRequest,
              com.catga.ids.v1.GenerateIdResponse>(
                service, METHODID_GENERATE_ID)))
        .addMethod(
          getGenerateIdsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.ids.v1.GenerateIdsRequest,
              com.catga.ids.v1.GenerateIdsResponse>(
                service, METHODID_GENERATE_IDS)))
        .addMethod(
          getStreamIdsMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              com.catga.ids.v1.StreamIdsRequest,
              com.catga.ids.v1.StreamIdsResponse>(
                service, METHODID_STREAM_IDS)))
        .addMethod(
          getParseIdMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.ids.v1.ParseIdRequest,
              com.catga.ids.v1.ParseIdResponse>(
                service, METHODID_PARSE_ID)))
        .build();
  }

  private static abstract class IdServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    IdServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return com.catga.ids.v1.IdsProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("IdService");
    }
  }

  private static final class IdServiceFileDescriptorSupplier
      extends IdServiceBaseDescriptorSupplier {
    IdServiceFileDescriptorSupplier() {}
  }

  private static final class IdServiceMethodDescriptorSupplier
      extends IdServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    IdServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (IdServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new IdServiceFileDescriptorSupplier())
              .addMethod(getGenerateIdMethod())
              .addMethod(getGenerateIdsMethod())
              .addMethod(getStreamIdsMethod())
              .addMethod(getParseIdMethod())
              .build();
        }
      }
    }
    return result;
  }
}
