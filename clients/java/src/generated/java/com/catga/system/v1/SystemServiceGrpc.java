package com.catga.system.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Describes the node that answers, and its cluster. Read-only and safe to retry.
 * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason: UNAVAILABLE with the reason UNAVAILABLE (RetryInfo;
 * the leases of the cluster cannot be read) or SHUTTING_DOWN, RESOURCE_EXHAUSTED with the reason OVERLOADED (RetryInfo; too many open
 * streams).
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class SystemServiceGrpc {

  private SystemServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "catga.system.v1.SystemService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.GetServerInfoRequest,
      com.catga.system.v1.GetServerInfoResponse> getGetServerInfoMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetServerInfo",
      requestType = com.catga.system.v1.GetServerInfoRequest.class,
      responseType = com.catga.system.v1.GetServerInfoResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.GetServerInfoRequest,
      com.catga.system.v1.GetServerInfoResponse> getGetServerInfoMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.GetServerInfoRequest, com.catga.system.v1.GetServerInfoResponse> getGetServerInfoMethod;
    if ((getGetServerInfoMethod = SystemServiceGrpc.getGetServerInfoMethod) == null) {
      synchronized (SystemServiceGrpc.class) {
        if ((getGetServerInfoMethod = SystemServiceGrpc.getGetServerInfoMethod) == null) {
          SystemServiceGrpc.getGetServerInfoMethod = getGetServerInfoMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.GetServerInfoRequest, com.catga.system.v1.GetServerInfoResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetServerInfo"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.GetServerInfoRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.GetServerInfoResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SystemServiceMethodDescriptorSupplier("GetServerInfo"))
              .build();
        }
      }
    }
    return getGetServerInfoMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.GetClusterRequest,
      com.catga.system.v1.GetClusterResponse> getGetClusterMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetCluster",
      requestType = com.catga.system.v1.GetClusterRequest.class,
      responseType = com.catga.system.v1.GetClusterResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.GetClusterRequest,
      com.catga.system.v1.GetClusterResponse> getGetClusterMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.GetClusterRequest, com.catga.system.v1.GetClusterResponse> getGetClusterMethod;
    if ((getGetClusterMethod = SystemServiceGrpc.getGetClusterMethod) == null) {
      synchronized (SystemServiceGrpc.class) {
        if ((getGetClusterMethod = SystemServiceGrpc.getGetClusterMethod) == null) {
          SystemServiceGrpc.getGetClusterMethod = getGetClusterMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.GetClusterRequest, com.catga.system.v1.GetClusterResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetCluster"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.GetClusterRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.GetClusterResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SystemServiceMethodDescriptorSupplier("GetCluster"))
              .build();
        }
      }
    }
    return getGetClusterMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.WatchClusterRequest,
      com.catga.system.v1.WatchClusterResponse> getWatchClusterMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WatchCluster",
      requestType = com.catga.system.v1.WatchClusterRequest.class,
      responseType = com.catga.system.v1.WatchClusterResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.WatchClusterRequest,
      com.catga.system.v1.WatchClusterResponse> getWatchClusterMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.WatchClusterRequest, com.catga.system.v1.WatchClusterResponse> getWatchClusterMethod;
    if ((getWatchClusterMethod = SystemServiceGrpc.getWatchClusterMethod) == null) {
      synchronized (SystemServiceGrpc.class) {
        if ((getWatchClusterMethod = SystemServiceGrpc.getWatchClusterMethod) == null) {
          SystemServiceGrpc.getWatchClusterMethod = getWatchClusterMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.WatchClusterRequest, com.catga.system.v1.WatchClusterResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WatchCluster"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.WatchClusterRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.WatchClusterResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SystemServiceMethodDescriptorSupplier("WatchCluster"))
              .build();
        }
      }
    }
    return getWatchClusterMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.ListCircuitBreakersRequest,
      com.catga.system.v1.ListCircuitBreakersResponse> getListCircuitBreakersMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListCircuitBreakers",
      requestType = com.catga.system.v1.ListCircuitBreakersRequest.class,
      responseType = com.catga.system.v1.ListCircuitBreakersResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.ListCircuitBreakersRequest,
      com.catga.system.v1.ListCircuitBreakersResponse> getListCircuitBreakersMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.ListCircuitBreakersRequest, com.catga.system.v1.ListCircuitBreakersResponse> getListCircuitBreakersMethod;
    if ((getListCircuitBreakersMethod = SystemServiceGrpc.getListCircuitBreakersMethod) == null) {
      synchronized (SystemServiceGrpc.class) {
        if ((getListCircuitBreakersMethod = SystemServiceGrpc.getListCircuitBreakersMethod) == null) {
          SystemServiceGrpc.getListCircuitBreakersMethod = getListCircuitBreakersMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.ListCircuitBreakersRequest, com.catga.system.v1.ListCircuitBreakersResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListCircuitBreakers"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.ListCircuitBreakersRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.ListCircuitBreakersResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SystemServiceMethodDescriptorSupplier("ListCircuitBreakers"))
              .build();
        }
      }
    }
    return getListCircuitBreakersMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static SystemServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<SystemServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<SystemServiceStub>() {
        @java.lang.Override
        public SystemServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new SystemServiceStub(channel, callOptions);
        }
      };
    return SystemServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static SystemServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<SystemServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<SystemServiceBlockingV2Stub>() {
        @java.lang.Override
        public SystemServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new SystemServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return SystemServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static SystemServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<SystemServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<SystemServiceBlockingStub>() {
        @java.lang.Override
        public SystemServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new SystemServiceBlockingStub(channel, callOptions);
        }
      };
    return SystemServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static SystemServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<SystemServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<SystemServiceFutureStub>() {
        @java.lang.Override
        public SystemServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new SystemServiceFutureStub(channel, callOptions);
        }
      };
    return SystemServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Describes the node that answers, and its cluster. Read-only and safe to retry.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason: UNAVAILABLE with the reason UNAVAILABLE (RetryInfo;
   * the leases of the cluster cannot be read) or SHUTTING_DOWN, RESOURCE_EXHAUSTED with the reason OVERLOADED (RetryInfo; too many open
   * streams).
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Returns the version, name, backends, durability and limits of the node. Does not access the backends.
     * </pre>
     */
    default void getServerInfo(com.catga.system.v1.GetServerInfoRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.GetServerInfoResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetServerInfoMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the nodes that share the log, with the roles that each holds and how far each has followed the log. Up to a second old.
     * </pre>
     */
    default void getCluster(com.catga.system.v1.GetClusterRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.GetClusterResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetClusterMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams the same: immediately, then whenever something has changed, at most once per second. Ends with SHUTTING_DOWN when the node
     * shuts down.
     * </pre>
     */
    default void watchCluster(com.catga.system.v1.WatchClusterRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.WatchClusterResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchClusterMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the circuit breakers of the node: one before each backend that it has. Does not access the backends.
     * </pre>
     */
    default void listCircuitBreakers(com.catga.system.v1.ListCircuitBreakersRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.ListCircuitBreakersResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListCircuitBreakersMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service SystemService.
   * <pre>
   * Describes the node that answers, and its cluster. Read-only and safe to retry.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason: UNAVAILABLE with the reason UNAVAILABLE (RetryInfo;
   * the leases of the cluster cannot be read) or SHUTTING_DOWN, RESOURCE_EXHAUSTED with the reason OVERLOADED (RetryInfo; too many open
   * streams).
   * </pre>
   */
  public static abstract class SystemServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return SystemServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service SystemService.
   * <pre>
   * Describes the node that answers, and its cluster. Read-only and safe to retry.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason: UNAVAILABLE with the reason UNAVAILABLE (RetryInfo;
   * the leases of the cluster cannot be read) or SHUTTING_DOWN, RESOURCE_EXHAUSTED with the reason OVERLOADED (RetryInfo; too many open
   * streams).
   * </pre>
   */
  public static final class SystemServiceStub
      extends io.grpc.stub.AbstractAsyncStub<SystemServiceStub> {
    private SystemServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected SystemServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new SystemServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the version, name, backends, durability and limits of the node. Does not access the backends.
     * </pre>
     */
    public void getServerInfo(com.catga.system.v1.GetServerInfoRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.GetServerInfoResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetServerInfoMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the nodes that share the log, with the roles that each holds and how far each has followed the log. Up to a second old.
     * </pre>
     */
    public void getCluster(com.catga.system.v1.GetClusterRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.GetClusterResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetClusterMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams the same: immediately, then whenever something has changed, at most once per second. Ends with SHUTTING_DOWN when the node
     * shuts down.
     * </pre>
     */
    public void watchCluster(com.catga.system.v1.WatchClusterRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.WatchClusterResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchClusterMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the circuit breakers of the node: one before each backend that it has. Does not access the backends.
     * </pre>
     */
    public void listCircuitBreakers(com.catga.system.v1.ListCircuitBreakersRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.ListCircuitBreakersResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListCircuitBreakersMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service SystemService.
   * <pre>
   * Describes the node that answers, and its cluster. Read-only and safe to retry.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason: UNAVAILABLE with the reason UNAVAILABLE (RetryInfo;
   * the leases of the cluster cannot be read) or SHUTTING_DOWN, RESOURCE_EXHAUSTED with the reason OVERLOADED (RetryInfo; too many open
   * streams).
   * </pre>
   */
  public static final class SystemServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<SystemServiceBlockingV2Stub> {
    private SystemServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected SystemServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new SystemServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the version, name, backends, durability and limits of the node. Does not access the backends.
     * </pre>
     */
    public com.catga.system.v1.GetServerInfoResponse getServerInfo(com.catga.system.v1.GetServerInfoRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetServerInfoMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the nodes that share the log, with the roles that each holds and how far each has followed the log. Up to a second old.
     * </pre>
     */
    public com.catga.system.v1.GetClusterResponse getCluster(com.catga.system.v1.GetClusterRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetClusterMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams the same: immediately, then whenever something has changed, at most once per second. Ends with SHUTTING_DOWN when the node
     * shuts down.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, com.catga.system.v1.WatchClusterResponse>
        watchCluster(com.catga.system.v1.WatchClusterRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getWatchClusterMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the circuit breakers of the node: one before each backend that it has. Does not access the backends.
     * </pre>
     */
    public com.catga.system.v1.ListCircuitBreakersResponse listCircuitBreakers(com.catga.system.v1.ListCircuitBreakersRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListCircuitBreakersMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service SystemService.
   * <pre>
   * Describes the node that answers, and its cluster. Read-only and safe to retry.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason: UNAVAILABLE with the reason UNAVAILABLE (RetryInfo;
   * the leases of the cluster cannot be read) or SHUTTING_DOWN, RESOURCE_EXHAUSTED with the reason OVERLOADED (RetryInfo; too many open
   * streams).
   * </pre>
   */
  public static final class SystemServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<SystemServiceBlockingStub> {
    private SystemServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected SystemServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new SystemServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the version, name, backends, durability and limits of the node. Does not access the backends.
     * </pre>
     */
    public com.catga.system.v1.GetServerInfoResponse getServerInfo(com.catga.system.v1.GetServerInfoRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetServerInfoMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the nodes that share the log, with the roles that each holds and how far each has followed the log. Up to a second old.
     * </pre>
     */
    public com.catga.system.v1.GetClusterResponse getCluster(com.catga.system.v1.GetClusterRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetClusterMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams the same: immediately, then whenever something has changed, at most once per second. Ends with SHUTTING_DOWN when the node
     * shuts down.
     * </pre>
     */
    public java.util.Iterator<com.catga.system.v1.WatchClusterResponse> watchCluster(
        com.catga.system.v1.WatchClusterRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchClusterMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the circuit breakers of the node: one before each backend that it has. Does not access the backends.
     * </pre>
     */
    public com.catga.system.v1.ListCircuitBreakersResponse listCircuitBreakers(com.catga.system.v1.ListCircuitBreakersRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListCircuitBreakersMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service SystemService.
   * <pre>
   * Describes the node that answers, and its cluster. Read-only and safe to retry.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason: UNAVAILABLE with the reason UNAVAILABLE (RetryInfo;
   * the leases of the cluster cannot be read) or SHUTTING_DOWN, RESOURCE_EXHAUSTED with the reason OVERLOADED (RetryInfo; too many open
   * streams).
   * </pre>
   */
  public static final class SystemServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<SystemServiceFutureStub> {
    private SystemServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected SystemServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new SystemServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Returns the version, name, backends, durability and limits of the node. Does not access the backends.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.GetServerInfoResponse> getServerInfo(
        com.catga.system.v1.GetServerInfoRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetServerInfoMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the nodes that share the log, with the roles that each holds and how far each has followed the log. Up to a second old.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.GetClusterResponse> getCluster(
        com.catga.system.v1.GetClusterRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetClusterMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the circuit breakers of the node: one before each backend that it has. Does not access the backends.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.ListCircuitBreakersResponse> listCircuitBreakers(
        com.catga.system.v1.ListCircuitBreakersRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListCircuitBreakersMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_GET_SERVER_INFO = 0;
  private static final int METHODID_GET_CLUSTER = 1;
  private static final int METHODID_WATCH_CLUSTER = 2;
  private static final int METHODID_LIST_CIRCUIT_BREAKERS = 3;

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
        case METHODID_GET_SERVER_INFO:
          serviceImpl.getServerInfo((com.catga.system.v1.GetServerInfoRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.GetServerInfoResponse>) responseObserver);
          break;
        case METHODID_GET_CLUSTER:
          serviceImpl.getCluster((com.catga.system.v1.GetClusterRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.GetClusterResponse>) responseObserver);
          break;
        case METHODID_WATCH_CLUSTER:
          serviceImpl.watchCluster((com.catga.system.v1.WatchClusterRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.WatchClusterResponse>) responseObserver);
          break;
        case METHODID_LIST_CIRCUIT_BREAKERS:
          serviceImpl.listCircuitBreakers((com.catga.system.v1.ListCircuitBreakersRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.ListCircuitBreakersResponse>) responseObserver);
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
          getGetServerInfoMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.GetServerInfoRequest,
              com.catga.system.v1.GetServerInfoResponse>(
                service, METHODID_GET_SERVER_INFO)))
        .addMethod(
          getGetClusterMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.GetClusterRequest,
              com.catga.system.v1.GetClusterResponse>(
                service, METHODID_GET_CLUSTER)))
        .addMethod(
          getWatchClusterMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              com.catga.system.v1.WatchClusterRequest,
              com.catga.system.v1.WatchClusterResponse>(
                service, METHODID_WATCH_CLUSTER)))
        .addMethod(
          getListCircuitBreakersMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.ListCircuitBreakersRequest,
              com.catga.system.v1.ListCircuitBreakersResponse>(
                service, METHODID_LIST_CIRCUIT_BREAKERS)))
        .build();
  }

  private static abstract class SystemServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    SystemServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return com.catga.system.v1.SystemProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("SystemService");
    }
  }

  private static final class SystemServiceFileDescriptorSupplier
      extends SystemServiceBaseDescriptorSupplier {
    SystemServiceFileDescriptorSupplier() {}
  }

  private static final class SystemServiceMethodDescriptorSupplier
      extends SystemServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    SystemServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (SystemServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new SystemServiceFileDescriptorSupplier())
              .addMethod(getGetServerInfoMethod())
              .addMethod(getGetClusterMethod())
              .addMethod(getWatchClusterMethod())
              .addMethod(getListCircuitBreakersMethod())
              .build();
        }
      }
    }
    return result;
  }
}
