package com.catga.system.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Operations on dead letters, the read model, the log of the node and its configuration. Only operators may call it: with --identities
 * callers with the role operator, otherwise clients on the node's own machine, clients of its --admin-port, and with --operators anyone
 * every client.
 * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
 * - PERMISSION_DENIED: OPERATORS_ONLY
 * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
 * - NOT_FOUND: HANDLER_NOT_FOUND (`known_handlers` in the metadata lists the names)
 * - FAILED_PRECONDITION: LOG_NOT_MANAGED (the log levels; a program that embeds the node has set up its log itself)
 * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo)
 * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the message bus is unavailable, and a replay or discard may have been carried out in part, or the
 *   rebuild has failed), SHUTTING_DOWN (RetryInfo)
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class AdminServiceGrpc {

  private AdminServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "catga.system.v1.AdminService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.ListDeadLettersRequest,
      com.catga.system.v1.ListDeadLettersResponse> getListDeadLettersMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListDeadLetters",
      requestType = com.catga.system.v1.ListDeadLettersRequest.class,
      responseType = com.catga.system.v1.ListDeadLettersResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.ListDeadLettersRequest,
      com.catga.system.v1.ListDeadLettersResponse> getListDeadLettersMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.ListDeadLettersRequest, com.catga.system.v1.ListDeadLettersResponse> getListDeadLettersMethod;
    if ((getListDeadLettersMethod = AdminServiceGrpc.getListDeadLettersMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getListDeadLettersMethod = AdminServiceGrpc.getListDeadLettersMethod) == null) {
          AdminServiceGrpc.getListDeadLettersMethod = getListDeadLettersMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.ListDeadLettersRequest, com.catga.system.v1.ListDeadLettersResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListDeadLetters"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.ListDeadLettersRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.ListDeadLettersResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("ListDeadLetters"))
              .build();
        }
      }
    }
    return getListDeadLettersMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.ReplayDeadLettersRequest,
      com.catga.system.v1.ReplayDeadLettersResponse> getReplayDeadLettersMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ReplayDeadLetters",
      requestType = com.catga.system.v1.ReplayDeadLettersRequest.class,
      responseType = com.catga.system.v1.ReplayDeadLettersResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.ReplayDeadLettersRequest,
      com.catga.system.v1.ReplayDeadLettersResponse> getReplayDeadLettersMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.ReplayDeadLettersRequest, com.catga.system.v1.ReplayDeadLettersResponse> getReplayDeadLettersMethod;
    if ((getReplayDeadLettersMethod = AdminServiceGrpc.getReplayDeadLettersMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getReplayDeadLettersMethod = AdminServiceGrpc.getReplayDeadLettersMethod) == null) {
          AdminServiceGrpc.getReplayDeadLettersMethod = getReplayDeadLettersMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.ReplayDeadLettersRequest, com.catga.system.v1.ReplayDeadLettersResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ReplayDeadLetters"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.ReplayDeadLettersRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.ReplayDeadLettersResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("ReplayDeadLetters"))
              .build();
        }
      }
    }
    return getReplayDeadLettersMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.DiscardDeadLettersRequest,
      com.catga.system.v1.DiscardDeadLettersResponse> getDiscardDeadLettersMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DiscardDeadLetters",
      requestType = com.catga.system.v1.DiscardDeadLettersRequest.class,
      responseType = com.catga.system.v1.DiscardDeadLettersResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.DiscardDeadLettersRequest,
      com.catga.system.v1.DiscardDeadLettersResponse> getDiscardDeadLettersMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.DiscardDeadLettersRequest, com.catga.system.v1.DiscardDeadLettersResponse> getDiscardDeadLettersMethod;
    if ((getDiscardDeadLettersMethod = AdminServiceGrpc.getDiscardDeadLettersMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getDiscardDeadLettersMethod = AdminServiceGrpc.getDiscardDeadLettersMethod) == null) {
          AdminServiceGrpc.getDiscardDeadLettersMethod = getDiscardDeadLettersMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.DiscardDeadLettersRequest, com.catga.system.v1.DiscardDeadLettersResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DiscardDeadLetters"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.DiscardDeadLettersRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.DiscardDeadLettersResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("DiscardDeadLetters"))
              .build();
        }
      }
    }
    return getDiscardDeadLettersMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.RebuildProjectionsRequest,
      com.catga.system.v1.RebuildProjectionsResponse> getRebuildProjectionsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RebuildProjections",
      requestType = com.catga.system.v1.RebuildProjectionsRequest.class,
      responseType = com.catga.system.v1.RebuildProjectionsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.RebuildProjectionsRequest,
      com.catga.system.v1.RebuildProjectionsResponse> getRebuildProjectionsMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.RebuildProjectionsRequest, com.catga.system.v1.RebuildProjectionsResponse> getRebuildProjectionsMethod;
    if ((getRebuildProjectionsMethod = AdminServiceGrpc.getRebuildProjectionsMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getRebuildProjectionsMethod = AdminServiceGrpc.getRebuildProjectionsMethod) == null) {
          AdminServiceGrpc.getRebuildProjectionsMethod = getRebuildProjectionsMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.RebuildProjectionsRequest, com.catga.system.v1.RebuildProjectionsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RebuildProjections"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.RebuildProjectionsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.RebuildProjectionsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("RebuildProjections"))
              .build();
        }
      }
    }
    return getRebuildProjectionsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.GetConfigurationRequest,
      com.catga.system.v1.GetConfigurationResponse> getGetConfigurationMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetConfiguration",
      requestType = com.catga.system.v1.GetConfigurationRequest.class,
      responseType = com.catga.system.v1.GetConfigurationResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.GetConfigurationRequest,
      com.catga.system.v1.GetConfigurationResponse> getGetConfigurationMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.GetConfigurationRequest, com.catga.system.v1.GetConfigurationResponse> getGetConfigurationMethod;
    if ((getGetConfigurationMethod = AdminServiceGrpc.getGetConfigurationMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getGetConfigurationMethod = AdminServiceGrpc.getGetConfigurationMethod) == null) {
          AdminServiceGrpc.getGetConfigurationMethod = getGetConfigurationMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.GetConfigurationRequest, com.catga.system.v1.GetConfigurationResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetConfiguration"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.GetConfigurationRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.GetConfigurationResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("GetConfiguration"))
              .build();
        }
      }
    }
    return getGetConfigurationMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.GetLogLevelRequest,
      com.catga.system.v1.GetLogLevelResponse> getGetLogLevelMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetLogLevel",
      requestType = com.catga.system.v1.GetLogLevelRequest.class,
      responseType = com.catga.system.v1.GetLogLevelResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.GetLogLevelRequest,
      com.catga.system.v1.GetLogLevelResponse> getGetLogLevelMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.GetLogLevelRequest, com.catga.system.v1.GetLogLevelResponse> getGetLogLevelMethod;
    if ((getGetLogLevelMethod = AdminServiceGrpc.getGetLogLevelMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getGetLogLevelMethod = AdminServiceGrpc.getGetLogLevelMethod) == null) {
          AdminServiceGrpc.getGetLogLevelMethod = getGetLogLevelMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.GetLogLevelRequest, com.catga.system.v1.GetLogLevelResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetLogLevel"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.GetLogLevelRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.GetLogLevelResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("GetLogLevel"))
              .build();
        }
      }
    }
    return getGetLogLevelMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.catga.system.v1.SetLogLevelRequest,
      com.catga.system.v1.SetLogLevelResponse> getSetLogLevelMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "SetLogLevel",
      requestType = com.catga.system.v1.SetLogLevelRequest.class,
      responseType = com.catga.system.v1.SetLogLevelResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.catga.system.v1.SetLogLevelRequest,
      com.catga.system.v1.SetLogLevelResponse> getSetLogLevelMethod() {
    io.grpc.MethodDescriptor<com.catga.system.v1.SetLogLevelRequest, com.catga.system.v1.SetLogLevelResponse> getSetLogLevelMethod;
    if ((getSetLogLevelMethod = AdminServiceGrpc.getSetLogLevelMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getSetLogLevelMethod = AdminServiceGrpc.getSetLogLevelMethod) == null) {
          AdminServiceGrpc.getSetLogLevelMethod = getSetLogLevelMethod =
              io.grpc.MethodDescriptor.<com.catga.system.v1.SetLogLevelRequest, com.catga.system.v1.SetLogLevelResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "SetLogLevel"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.SetLogLevelRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.catga.system.v1.SetLogLevelResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("SetLogLevel"))
              .build();
        }
      }
    }
    return getSetLogLevelMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static AdminServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AdminServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AdminServiceStub>() {
        @java.lang.Override
        public AdminServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AdminServiceStub(channel, callOptions);
        }
      };
    return AdminServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static AdminServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AdminServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AdminServiceBlockingV2Stub>() {
        @java.lang.Override
        public AdminServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AdminServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return AdminServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static AdminServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AdminServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AdminServiceBlockingStub>() {
        @java.lang.Override
        public AdminServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AdminServiceBlockingStub(channel, callOptions);
        }
      };
    return AdminServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static AdminServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AdminServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AdminServiceFutureStub>() {
        @java.lang.Override
        public AdminServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AdminServiceFutureStub(channel, callOptions);
        }
      };
    return AdminServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Operations on dead letters, the read model, the log of the node and its configuration. Only operators may call it: with --identities
   * callers with the role operator, otherwise clients on the node's own machine, clients of its --admin-port, and with --operators anyone
   * every client.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - PERMISSION_DENIED: OPERATORS_ONLY
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: HANDLER_NOT_FOUND (`known_handlers` in the metadata lists the names)
   * - FAILED_PRECONDITION: LOG_NOT_MANAGED (the log levels; a program that embeds the node has set up its log itself)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the message bus is unavailable, and a replay or discard may have been carried out in part, or the
   *   rebuild has failed), SHUTTING_DOWN (RetryInfo)
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Lists the dead letters of an event handler, oldest first: the events that it failed to handle. At most 10 000 per handler are kept.
     * </pre>
     */
    default void listDeadLetters(com.catga.system.v1.ListDeadLettersRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.ListDeadLettersResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListDeadLettersMethod(), responseObserver);
    }

    /**
     * <pre>
     * Redelivers dead letters to their handler. An event that fails again becomes a dead letter again, and a retry of the call would
     * redeliver it once more.
     * </pre>
     */
    default void replayDeadLetters(com.catga.system.v1.ReplayDeadLettersRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.ReplayDeadLettersResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getReplayDeadLettersMethod(), responseObserver);
    }

    /**
     * <pre>
     * Permanently discards dead letters. The events remain in the log. A retry with `all` also discards letters that arrived meanwhile.
     * </pre>
     */
    default void discardDeadLetters(com.catga.system.v1.DiscardDeadLettersRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.DiscardDeadLettersResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDiscardDeadLettersMethod(), responseObserver);
    }

    /**
     * <pre>
     * Rebuilds the read model of this node (lists and totals) from the log, and streams the progress. The current one serves queries until
     * the new one replaces it. If a rebuild is already running, joins it. The rebuild continues if this call ends early. Within a minute
     * after a rebuild has finished, another one is refused with OVERLOADED.
     * </pre>
     */
    default void rebuildProjections(com.catga.system.v1.RebuildProjectionsRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.RebuildProjectionsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRebuildProjectionsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the settings in use and where each comes from, as `ordersystem config` prints them: passwords are hidden.
     * </pre>
     */
    default void getConfiguration(com.catga.system.v1.GetConfigurationRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.GetConfigurationResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetConfigurationMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the filter of this node's log.
     * </pre>
     */
    default void getLogLevel(com.catga.system.v1.GetLogLevelRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.GetLogLevelResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetLogLevelMethod(), responseObserver);
    }

    /**
     * <pre>
     * Changes the filter of this node's log, for a time or until it is changed again. The configured filter applies again when the node
     * restarts, and after SIGHUP, on which a node reads its configuration again.
     * </pre>
     */
    default void setLogLevel(com.catga.system.v1.SetLogLevelRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.SetLogLevelResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getSetLogLevelMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service AdminService.
   * <pre>
   * Operations on dead letters, the read model, the log of the node and its configuration. Only operators may call it: with --identities
   * callers with the role operator, otherwise clients on the node's own machine, clients of its --admin-port, and with --operators anyone
   * every client.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - PERMISSION_DENIED: OPERATORS_ONLY
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: HANDLER_NOT_FOUND (`known_handlers` in the metadata lists the names)
   * - FAILED_PRECONDITION: LOG_NOT_MANAGED (the log levels; a program that embeds the node has set up its log itself)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the message bus is unavailable, and a replay or discard may have been carried out in part, or the
   *   rebuild has failed), SHUTTING_DOWN (RetryInfo)
   * </pre>
   */
  public static abstract class AdminServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return AdminServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service AdminService.
   * <pre>
   * Operations on dead letters, the read model, the log of the node and its configuration. Only operators may call it: with --identities
   * callers with the role operator, otherwise clients on the node's own machine, clients of its --admin-port, and with --operators anyone
   * every client.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - PERMISSION_DENIED: OPERATORS_ONLY
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: HANDLER_NOT_FOUND (`known_handlers` in the metadata lists the names)
   * - FAILED_PRECONDITION: LOG_NOT_MANAGED (the log levels; a program that embeds the node has set up its log itself)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the message bus is unavailable, and a replay or discard may have been carried out in part, or the
   *   rebuild has failed), SHUTTING_DOWN (RetryInfo)
   * </pre>
   */
  public static final class AdminServiceStub
      extends io.grpc.stub.AbstractAsyncStub<AdminServiceStub> {
    private AdminServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AdminServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AdminServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Lists the dead letters of an event handler, oldest first: the events that it failed to handle. At most 10 000 per handler are kept.
     * </pre>
     */
    public void listDeadLetters(com.catga.system.v1.ListDeadLettersRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.ListDeadLettersResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListDeadLettersMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Redelivers dead letters to their handler. An event that fails again becomes a dead letter again, and a retry of the call would
     * redeliver it once more.
     * </pre>
     */
    public void replayDeadLetters(com.catga.system.v1.ReplayDeadLettersRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.ReplayDeadLettersResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getReplayDeadLettersMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Permanently discards dead letters. The events remain in the log. A retry with `all` also discards letters that arrived meanwhile.
     * </pre>
     */
    public void discardDeadLetters(com.catga.system.v1.DiscardDeadLettersRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.DiscardDeadLettersResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDiscardDeadLettersMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Rebuilds the read model of this node (lists and totals) from the log, and streams the progress. The current one serves queries until
     * the new one replaces it. If a rebuild is already running, joins it. The rebuild continues if this call ends early. Within a minute
     * after a rebuild has finished, another one is refused with OVERLOADED.
     * </pre>
     */
    public void rebuildProjections(com.catga.system.v1.RebuildProjectionsRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.RebuildProjectionsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getRebuildProjectionsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the settings in use and where each comes from, as `ordersystem config` prints them: passwords are hidden.
     * </pre>
     */
    public void getConfiguration(com.catga.system.v1.GetConfigurationRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.GetConfigurationResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetConfigurationMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the filter of this node's log.
     * </pre>
     */
    public void getLogLevel(com.catga.system.v1.GetLogLevelRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.GetLogLevelResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetLogLevelMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Changes the filter of this node's log, for a time or until it is changed again. The configured filter applies again when the node
     * restarts, and after SIGHUP, on which a node reads its configuration again.
     * </pre>
     */
    public void setLogLevel(com.catga.system.v1.SetLogLevelRequest request,
        io.grpc.stub.StreamObserver<com.catga.system.v1.SetLogLevelResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getSetLogLevelMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service AdminService.
   * <pre>
   * Operations on dead letters, the read model, the log of the node and its configuration. Only operators may call it: with --identities
   * callers with the role operator, otherwise clients on the node's own machine, clients of its --admin-port, and with --operators anyone
   * every client.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - PERMISSION_DENIED: OPERATORS_ONLY
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: HANDLER_NOT_FOUND (`known_handlers` in the metadata lists the names)
   * - FAILED_PRECONDITION: LOG_NOT_MANAGED (the log levels; a program that embeds the node has set up its log itself)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the message bus is unavailable, and a replay or discard may have been carried out in part, or the
   *   rebuild has failed), SHUTTING_DOWN (RetryInfo)
   * </pre>
   */
  public static final class AdminServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<AdminServiceBlockingV2Stub> {
    private AdminServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AdminServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AdminServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Lists the dead letters of an event handler, oldest first: the events that it failed to handle. At most 10 000 per handler are kept.
     * </pre>
     */
    public com.catga.system.v1.ListDeadLettersResponse listDeadLetters(com.catga.system.v1.ListDeadLettersRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListDeadLettersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Redelivers dead letters to their handler. An event that fails again becomes a dead letter again, and a retry of the call would
     * redeliver it once more.
     * </pre>
     */
    public com.catga.system.v1.ReplayDeadLettersResponse replayDeadLetters(com.catga.system.v1.ReplayDeadLettersRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getReplayDeadLettersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Permanently discards dead letters. The events remain in the log. A retry with `all` also discards letters that arrived meanwhile.
     * </pre>
     */
    public com.catga.system.v1.DiscardDeadLettersResponse discardDeadLetters(com.catga.system.v1.DiscardDeadLettersRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDiscardDeadLettersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Rebuilds the read model of this node (lists and totals) from the log, and streams the progress. The current one serves queries until
     * the new one replaces it. If a rebuild is already running, joins it. The rebuild continues if this call ends early. Within a minute
     * after a rebuild has finished, another one is refused with OVERLOADED.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, com.catga.system.v1.RebuildProjectionsResponse>
        rebuildProjections(com.catga.system.v1.RebuildProjectionsRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getRebuildProjectionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the settings in use and where each comes from, as `ordersystem config` prints them: passwords are hidden.
     * </pre>
     */
    public com.catga.system.v1.GetConfigurationResponse getConfiguration(com.catga.system.v1.GetConfigurationRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetConfigurationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the filter of this node's log.
     * </pre>
     */
    public com.catga.system.v1.GetLogLevelResponse getLogLevel(com.catga.system.v1.GetLogLevelRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetLogLevelMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes the filter of this node's log, for a time or until it is changed again. The configured filter applies again when the node
     * restarts, and after SIGHUP, on which a node reads its configuration again.
     * </pre>
     */
    public com.catga.system.v1.SetLogLevelResponse setLogLevel(com.catga.system.v1.SetLogLevelRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getSetLogLevelMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service AdminService.
   * <pre>
   * Operations on dead letters, the read model, the log of the node and its configuration. Only operators may call it: with --identities
   * callers with the role operator, otherwise clients on the node's own machine, clients of its --admin-port, and with --operators anyone
   * every client.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - PERMISSION_DENIED: OPERATORS_ONLY
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: HANDLER_NOT_FOUND (`known_handlers` in the metadata lists the names)
   * - FAILED_PRECONDITION: LOG_NOT_MANAGED (the log levels; a program that embeds the node has set up its log itself)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the message bus is unavailable, and a replay or discard may have been carried out in part, or the
   *   rebuild has failed), SHUTTING_DOWN (RetryInfo)
   * </pre>
   */
  public static final class AdminServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<AdminServiceBlockingStub> {
    private AdminServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AdminServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AdminServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Lists the dead letters of an event handler, oldest first: the events that it failed to handle. At most 10 000 per handler are kept.
     * </pre>
     */
    public com.catga.system.v1.ListDeadLettersResponse listDeadLetters(com.catga.system.v1.ListDeadLettersRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListDeadLettersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Redelivers dead letters to their handler. An event that fails again becomes a dead letter again, and a retry of the call would
     * redeliver it once more.
     * </pre>
     */
    public com.catga.system.v1.ReplayDeadLettersResponse replayDeadLetters(com.catga.system.v1.ReplayDeadLettersRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getReplayDeadLettersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Permanently discards dead letters. The events remain in the log. A retry with `all` also discards letters that arrived meanwhile.
     * </pre>
     */
    public com.catga.system.v1.DiscardDeadLettersResponse discardDeadLetters(com.catga.system.v1.DiscardDeadLettersRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDiscardDeadLettersMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Rebuilds the read model of this node (lists and totals) from the log, and streams the progress. The current one serves queries until
     * the new one replaces it. If a rebuild is already running, joins it. The rebuild continues if this call ends early. Within a minute
     * after a rebuild has finished, another one is refused with OVERLOADED.
     * </pre>
     */
    public java.util.Iterator<com.catga.system.v1.RebuildProjectionsResponse> rebuildProjections(
        com.catga.system.v1.RebuildProjectionsRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getRebuildProjectionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the settings in use and where each comes from, as `ordersystem config` prints them: passwords are hidden.
     * </pre>
     */
    public com.catga.system.v1.GetConfigurationResponse getConfiguration(com.catga.system.v1.GetConfigurationRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetConfigurationMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the filter of this node's log.
     * </pre>
     */
    public com.catga.system.v1.GetLogLevelResponse getLogLevel(com.catga.system.v1.GetLogLevelRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetLogLevelMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes the filter of this node's log, for a time or until it is changed again. The configured filter applies again when the node
     * restarts, and after SIGHUP, on which a node reads its configuration again.
     * </pre>
     */
    public com.catga.system.v1.SetLogLevelResponse setLogLevel(com.catga.system.v1.SetLogLevelRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getSetLogLevelMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service AdminService.
   * <pre>
   * Operations on dead letters, the read model, the log of the node and its configuration. Only operators may call it: with --identities
   * callers with the role operator, otherwise clients on the node's own machine, clients of its --admin-port, and with --operators anyone
   * every client.
   * Errors, each with a google.rpc.ErrorInfo (domain "ordersystem") that has the reason. By code, with the reasons:
   * - PERMISSION_DENIED: OPERATORS_ONLY
   * - INVALID_ARGUMENT: INVALID_ARGUMENT (BadRequest has a violation for each field)
   * - NOT_FOUND: HANDLER_NOT_FOUND (`known_handlers` in the metadata lists the names)
   * - FAILED_PRECONDITION: LOG_NOT_MANAGED (the log levels; a program that embeds the node has set up its log itself)
   * - RESOURCE_EXHAUSTED: OVERLOADED (RetryInfo)
   * - UNAVAILABLE: UNAVAILABLE (RetryInfo; the message bus is unavailable, and a replay or discard may have been carried out in part, or the
   *   rebuild has failed), SHUTTING_DOWN (RetryInfo)
   * </pre>
   */
  public static final class AdminServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<AdminServiceFutureStub> {
    private AdminServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AdminServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AdminServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Lists the dead letters of an event handler, oldest first: the events that it failed to handle. At most 10 000 per handler are kept.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.ListDeadLettersResponse> listDeadLetters(
        com.catga.system.v1.ListDeadLettersRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListDeadLettersMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Redelivers dead letters to their handler. An event that fails again becomes a dead letter again, and a retry of the call would
     * redeliver it once more.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.ReplayDeadLettersResponse> replayDeadLetters(
        com.catga.system.v1.ReplayDeadLettersRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getReplayDeadLettersMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Permanently discards dead letters. The events remain in the log. A retry with `all` also discards letters that arrived meanwhile.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.DiscardDeadLettersResponse> discardDeadLetters(
        com.catga.system.v1.DiscardDeadLettersRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDiscardDeadLettersMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the settings in use and where each comes from, as `ordersystem config` prints them: passwords are hidden.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.GetConfigurationResponse> getConfiguration(
        com.catga.system.v1.GetConfigurationRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetConfigurationMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the filter of this node's log.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.GetLogLevelResponse> getLogLevel(
        com.catga.system.v1.GetLogLevelRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetLogLevelMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Changes the filter of this node's log, for a time or until it is changed again. The configured filter applies again when the node
     * restarts, and after SIGHUP, on which a node reads its configuration again.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.catga.system.v1.SetLogLevelResponse> setLogLevel(
        com.catga.system.v1.SetLogLevelRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getSetLogLevelMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_LIST_DEAD_LETTERS = 0;
  private static final int METHODID_REPLAY_DEAD_LETTERS = 1;
  private static final int METHODID_DISCARD_DEAD_LETTERS = 2;
  private static final int METHODID_REBUILD_PROJECTIONS = 3;
  private static final int METHODID_GET_CONFIGURATION = 4;
  private static final int METHODID_GET_LOG_LEVEL = 5;
  private static final int METHODID_SET_LOG_LEVEL = 6;

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
        case METHODID_LIST_DEAD_LETTERS:
          serviceImpl.listDeadLetters((com.catga.system.v1.ListDeadLettersRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.ListDeadLettersResponse>) responseObserver);
          break;
        case METHODID_REPLAY_DEAD_LETTERS:
          serviceImpl.replayDeadLetters((com.catga.system.v1.ReplayDeadLettersRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.ReplayDeadLettersResponse>) responseObserver);
          break;
        case METHODID_DISCARD_DEAD_LETTERS:
          serviceImpl.discardDeadLetters((com.catga.system.v1.DiscardDeadLettersRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.DiscardDeadLettersResponse>) responseObserver);
          break;
        case METHODID_REBUILD_PROJECTIONS:
          serviceImpl.rebuildProjections((com.catga.system.v1.RebuildProjectionsRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.RebuildProjectionsResponse>) responseObserver);
          break;
        case METHODID_GET_CONFIGURATION:
          serviceImpl.getConfiguration((com.catga.system.v1.GetConfigurationRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.GetConfigurationResponse>) responseObserver);
          break;
        case METHODID_GET_LOG_LEVEL:
          serviceImpl.getLogLevel((com.catga.system.v1.GetLogLevelRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.GetLogLevelResponse>) responseObserver);
          break;
        case METHODID_SET_LOG_LEVEL:
          serviceImpl.setLogLevel((com.catga.system.v1.SetLogLevelRequest) request,
              (io.grpc.stub.StreamObserver<com.catga.system.v1.SetLogLevelResponse>) responseObserver);
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
          getListDeadLettersMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.ListDeadLettersRequest,
              com.catga.system.v1.ListDeadLettersResponse>(
                service, METHODID_LIST_DEAD_LETTERS)))
        .addMethod(
          getReplayDeadLettersMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.ReplayDeadLettersRequest,
              com.catga.system.v1.ReplayDeadLettersResponse>(
                service, METHODID_REPLAY_DEAD_LETTERS)))
        .addMethod(
          getDiscardDeadLettersMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.DiscardDeadLettersRequest,
              com.catga.system.v1.DiscardDeadLettersResponse>(
                service, METHODID_DISCARD_DEAD_LETTERS)))
        .addMethod(
          getRebuildProjectionsMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              com.catga.system.v1.RebuildProjectionsRequest,
              com.catga.system.v1.RebuildProjectionsResponse>(
                service, METHODID_REBUILD_PROJECTIONS)))
        .addMethod(
          getGetConfigurationMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.GetConfigurationRequest,
              com.catga.system.v1.GetConfigurationResponse>(
                service, METHODID_GET_CONFIGURATION)))
        .addMethod(
          getGetLogLevelMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.GetLogLevelRequest,
              com.catga.system.v1.GetLogLevelResponse>(
                service, METHODID_GET_LOG_LEVEL)))
        .addMethod(
          getSetLogLevelMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.catga.system.v1.SetLogLevelRequest,
              com.catga.system.v1.SetLogLevelResponse>(
                service, METHODID_SET_LOG_LEVEL)))
        .build();
  }

  private static abstract class AdminServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    AdminServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return com.catga.system.v1.SystemProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("AdminService");
    }
  }

  private static final class AdminServiceFileDescriptorSupplier
      extends AdminServiceBaseDescriptorSupplier {
    AdminServiceFileDescriptorSupplier() {}
  }

  private static final class AdminServiceMethodDescriptorSupplier
      extends AdminServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    AdminServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (AdminServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new AdminServiceFileDescriptorSupplier())
              .addMethod(getListDeadLettersMethod())
              .addMethod(getReplayDeadLettersMethod())
              .addMethod(getDiscardDeadLettersMethod())
              .addMethod(getRebuildProjectionsMethod())
              .addMethod(getGetConfigurationMethod())
              .addMethod(getGetLogLevelMethod())
              .addMethod(getSetLogLevelMethod())
              .build();
        }
      }
    }
    return result;
  }
}
