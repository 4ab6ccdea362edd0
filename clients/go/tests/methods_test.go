package tests

import (
	"bytes"
	"context"
	"encoding/json"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	idsv1 "github.com/catga/ordersystem/clients/go/catga/ids/v1"
	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	systemv1 "github.com/catga/ordersystem/clients/go/catga/system/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

// The methods that scenarios name, with requests and replies as JSON values.
type (
	unaryMethod  func(ctx context.Context, connection *grpc.ClientConn, request any) (any, error)
	streamMethod func(ctx context.Context, connection *grpc.ClientConn, request any) (next func() (any, error), err error)
)

type (
	orders  = ordersv1.OrderCommandServiceClient
	queries = ordersv1.OrderQueryServiceClient
	history = ordersv1.OrderHistoryServiceClient
	ids     = idsv1.IdServiceClient
)

var calls = map[string]unaryMethod{
	"catga.orders.v1.OrderCommandService/CreateOrder":   call(ordersv1.NewOrderCommandServiceClient, orders.CreateOrder),
	"catga.orders.v1.OrderCommandService/PayOrder":      call(ordersv1.NewOrderCommandServiceClient, orders.PayOrder),
	"catga.orders.v1.OrderCommandService/ShipOrder":     call(ordersv1.NewOrderCommandServiceClient, orders.ShipOrder),
	"catga.orders.v1.OrderCommandService/DeliverOrder":  call(ordersv1.NewOrderCommandServiceClient, orders.DeliverOrder),
	"catga.orders.v1.OrderCommandService/CancelOrder":   call(ordersv1.NewOrderCommandServiceClient, orders.CancelOrder),
	"catga.orders.v1.OrderQueryService/GetOrder":        call(ordersv1.NewOrderQueryServiceClient, queries.GetOrder),
	"catga.orders.v1.OrderQueryService/ListOrders":      call(ordersv1.NewOrderQueryServiceClient, queries.ListOrders),
	"catga.orders.v1.OrderQueryService/GetOrderStats":   call(ordersv1.NewOrderQueryServiceClient, queries.GetOrderStats),
	"catga.orders.v1.OrderQueryService/BatchGetOrders":  call(ordersv1.NewOrderQueryServiceClient, queries.BatchGetOrders),
	"catga.ids.v1.IdService/GenerateId":                 call(idsv1.NewIdServiceClient, ids.GenerateId),
	"catga.ids.v1.IdService/GenerateIds":                call(idsv1.NewIdServiceClient, ids.GenerateIds),
	"catga.ids.v1.IdService/ParseId":                    call(idsv1.NewIdServiceClient, ids.ParseId),
	"catga.system.v1.SystemService/GetServerInfo":       call(systemv1.NewSystemServiceClient, systemv1.SystemServiceClient.GetServerInfo),
	"catga.system.v1.SystemService/GetCluster":          call(systemv1.NewSystemServiceClient, systemv1.SystemServiceClient.GetCluster),
	"catga.system.v1.SystemService/ListCircuitBreakers": call(systemv1.NewSystemServiceClient, systemv1.SystemServiceClient.ListCircuitBreakers),
	"catga.system.v1.AdminService/ListDeadLetters":      call(systemv1.NewAdminServiceClient, systemv1.AdminServiceClient.ListDeadLetters),
	"catga.system.v1.AdminService/ReplayDeadLetters":    call(systemv1.NewAdminServiceClient, systemv1.AdminServiceClient.ReplayDeadLetters),
	"catga.system.v1.AdminService/DiscardDeadLetters":   call(systemv1.NewAdminServiceClient, systemv1.AdminServiceClient.DiscardDeadLetters),
	"catga.system.v1.AdminService/GetConfiguration":     call(systemv1.NewAdminServiceClient, systemv1.AdminServiceClient.GetConfiguration),
	"grpc.health.v1.Health/Check":                       call(healthv1.NewHealthClient, healthv1.HealthClient.Check),
	"catga.system.v1.AdminService/GetLogLevel":          call(systemv1.NewAdminServiceClient, systemv1.AdminServiceClient.GetLogLevel),
	"catga.system.v1.AdminService/SetLogLevel":          call(systemv1.NewAdminServiceClient, systemv1.AdminServiceClient.SetLogLevel),
}

var sends = map[string]unaryMethod{
	"catga.orders.v1.OrderCommandService/CreateOrder":  send(orders.CreateOrder),
	"catga.orders.v1.OrderCommandService/PayOrder":     send(orders.PayOrder),
	"catga.orders.v1.OrderCommandService/ShipOrder":    send(orders.ShipOrder),
	"catga.orders.v1.OrderCommandService/DeliverOrder": send(orders.DeliverOrder),
	"catga.orders.v1.OrderCommandService/CancelOrder":  send(orders.CancelOrder),
}

var streams = map[string]streamMethod{
	"catga.orders.v1.OrderHistoryService/StreamEvents":       stream(ordersv1.NewOrderHistoryServiceClient, history.StreamEvents),
	"catga.orders.v1.OrderHistoryService/StreamOrderHistory": stream(ordersv1.NewOrderHistoryServiceClient, history.StreamOrderHistory),
	"catga.system.v1.SystemService/WatchCluster":             stream(systemv1.NewSystemServiceClient, systemv1.SystemServiceClient.WatchCluster),
	"catga.system.v1.AdminService/RebuildProjections":        stream(systemv1.NewAdminServiceClient, systemv1.AdminServiceClient.RebuildProjections),
	"catga.ids.v1.IdService/StreamIds":                       stream(idsv1.NewIdServiceClient, ids.StreamIds),
	"grpc.health.v1.Health/Watch":                            stream(healthv1.NewHealthClient, healthv1.HealthClient.Watch),
}

var follows = map[string]streamMethod{
	"catga.orders.v1.OrderHistoryService/StreamEvents":       follow(ordersystem.FollowEvents),
	"catga.orders.v1.OrderHistoryService/StreamOrderHistory": follow(ordersystem.FollowOrder),
}

func call[Client any, Request, Reply proto.Message](
	client func(grpc.ClientConnInterface) Client,
	method func(Client, context.Context, Request, ...grpc.CallOption) (Reply, error),
) unaryMethod {
	return func(ctx context.Context, connection *grpc.ClientConn, content any) (any, error) {
		request, err := parse[Request](content)
		if err != nil {
			return nil, err
		}
		reply, err := method(client(connection), ctx, request)
		if err != nil {
			return nil, err
		}
		return toJSON(reply)
	}
}

func send[Request ordersystem.Command, Reply proto.Message](
	method func(orders, context.Context, Request, ...grpc.CallOption) (Reply, error),
) unaryMethod {
	return call(ordersv1.NewOrderCommandServiceClient, func(client orders, ctx context.Context, request Request, _ ...grpc.CallOption) (Reply, error) {
		bound := func(ctx context.Context, request Request, options ...grpc.CallOption) (Reply, error) {
			return method(client, ctx, request, options...)
		}
		return ordersystem.Send(ctx, bound, request)
	})
}

func stream[Client any, Request proto.Message, Reply any](
	client func(grpc.ClientConnInterface) Client,
	method func(Client, context.Context, Request, ...grpc.CallOption) (grpc.ServerStreamingClient[Reply], error),
) streamMethod {
	return func(ctx context.Context, connection *grpc.ClientConn, content any) (func() (any, error), error) {
		request, err := parse[Request](content)
		if err != nil {
			return nil, err
		}
		opened, refusal := method(client(connection), ctx, request)
		return func() (any, error) {
			if refusal != nil {
				return nil, refusal
			}
			message, err := opened.Recv()
			if err != nil {
				return nil, err
			}
			return toJSON(any(message).(proto.Message))
		}, nil
	}
}

func follow[Request proto.Message, Reply interface {
	proto.Message
	ordersystem.HistoryMessage
}](
	helper func(context.Context, history, Request, ...ordersystem.FollowOption) *ordersystem.Follow[Reply],
) streamMethod {
	return func(ctx context.Context, connection *grpc.ClientConn, content any) (func() (any, error), error) {
		request, err := parse[Request](content)
		if err != nil {
			return nil, err
		}
		followed := helper(ctx, ordersv1.NewOrderHistoryServiceClient(connection), request)
		return func() (any, error) {
			message, err := followed.Next()
			if err != nil {
				return nil, err
			}
			return toJSON(message)
		}, nil
	}
}

// parse makes a message of its JSON; nil is the empty message.
func parse[Message proto.Message](content any) (Message, error) {
	var none Message
	message := none.ProtoReflect().Type().New().Interface().(Message)
	if content == nil {
		return message, nil
	}
	text, err := json.Marshal(content)
	if err != nil {
		return none, err
	}
	return message, protojson.Unmarshal(text, message)
}

// toJSON is the message in proto3 JSON, as a value; numbers stay as they are written.
func toJSON(message proto.Message) (any, error) {
	text, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	err = decoder.Decode(&value)
	return value, err
}

// errorView is an error as the scenarios describe it.
func errorView(err *ordersystem.OrderError) object {
	view := object{"code": code.Code(err.Code).String(), "message": err.Message}
	if err.Reason != "" {
		metadata := object{}
		for name, value := range err.Metadata {
			metadata[name] = value
		}
		view["reason"], view["domain"], view["metadata"] = err.Reason, err.Domain, metadata
	}
	violations, preconditions := []any{}, []any{}
	for _, v := range err.FieldViolations {
		violations = append(violations, object{"field": v.Field, "description": v.Description})
	}
	for _, p := range err.Preconditions {
		preconditions = append(preconditions, object{"type": p.Type, "subject": p.Subject, "description": p.Description})
	}
	view["fieldViolations"], view["preconditions"] = violations, preconditions
	if err.RetryDelay != nil {
		view["retryDelayMs"] = err.RetryDelay.Milliseconds()
	}
	return view
}
