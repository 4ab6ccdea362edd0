// A tour of the order service: the life of an order, errors, a retry, a followed history, health, a deadline.
//
// usage: example ADDRESS
//
// Halfway it waits for a line on standard input: restart the service then, and see the history resume. That needs a durable service, such
// as `ordersystem --persistence embedded --data-dir DIR`.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/catga/ordersystem/clients/go/catga/events/v1"
	idsv1 "github.com/catga/ordersystem/clients/go/catga/ids/v1"
	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: example ADDRESS")
	}
	if err := tour(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func tour(ctx context.Context, address string) error {
	connection, err := ordersystem.Connect(address)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	if err := showHealth(ctx, connection); err != nil {
		return err
	}
	order, err := placeAndPay(ctx, connection)
	if err != nil {
		return err
	}
	cursor, err := readHistory(ctx, connection, order)
	if err != nil {
		return err
	}
	fmt.Println("restart the service if you like, then press Enter")
	// It also continues at the end of the input.
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	if err := finish(ctx, connection, order, cursor); err != nil {
		return err
	}
	return showDeadline(ctx, connection)
}

func showHealth(ctx context.Context, connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	answer, err := healthv1.NewHealthClient(connection).Check(ctx, &healthv1.HealthCheckRequest{Service: "readiness"})
	if err != nil {
		return err
	}
	fmt.Println("readiness:", answer.GetStatus())
	return nil
}

func placeAndPay(ctx context.Context, connection *grpc.ClientConn) (*ordersv1.Order, error) {
	orders := ordersv1.NewOrderCommandServiceClient(connection)
	price, err := ordersystem.ParseMoney("999.99", "USD")
	if err != nil {
		return nil, err
	}
	placed, err := ordersystem.Send(ctx, orders.CreateOrder, &ordersv1.CreateOrderRequest{
		// A customer unique to this run, to distinguish its events from others.
		CustomerId: "customer-" + uuid.NewString(),
		Items: []*ordersv1.NewOrderItem{{
			ProductId: "prod-1",
			Name:      "Laptop",
			Quantity:  1,
			UnitPrice: price,
		}},
	})
	if err != nil {
		return nil, err
	}
	order := placed.GetOrder()
	fmt.Println("placed:", order.GetStatus())

	tooEarly := &ordersv1.ShipOrderRequest{OrderId: order.GetOrderId(), TrackingNumber: "TRACK-1"}
	_, err = ordersystem.Send(ctx, orders.ShipOrder, tooEarly)
	var refused *ordersystem.OrderError
	if !errors.As(err, &refused) {
		return nil, fmt.Errorf("an order that is not paid was shipped: %w", err)
	}
	fmt.Println("refused:", refused.Code, refused.Reason, refused.Metadata["status"])

	pay := &ordersv1.PayOrderRequest{RequestId: uuid.NewString(), OrderId: order.GetOrderId(), PaymentMethod: "credit_card"}
	first, err := ordersystem.Send(ctx, orders.PayOrder, pay)
	if err != nil {
		return nil, err
	}
	second, err := ordersystem.Send(ctx, orders.PayOrder, pay)
	if err != nil {
		return nil, err
	}
	fmt.Println("paid:", first.GetOrder().GetStatus(), "- the retry got the first answer:", proto.Equal(first, second))
	return order, nil
}

// readHistory reads the existing events, and returns the cursor to resume from.
func readHistory(ctx context.Context, connection *grpc.ClientConn, order *ordersv1.Order) (string, error) {
	history := ordersv1.NewOrderHistoryServiceClient(connection)
	request := &ordersv1.StreamEventsRequest{CustomerIds: []string{order.GetCustomerId()}, Follow: true}
	follow := ordersystem.FollowEvents(ctx, history, request)
	defer follow.Cancel()
	for message, err := range follow.All() {
		if err != nil {
			return "", err
		}
		if message.GetCaughtUp() != nil {
			break
		}
		show(message.GetEvent())
	}
	return follow.Cursor(), nil
}

// finish ships and delivers the order, and resumes reading the history.
func finish(ctx context.Context, connection *grpc.ClientConn, order *ordersv1.Order, cursor string) error {
	orders := ordersv1.NewOrderCommandServiceClient(connection)
	history := ordersv1.NewOrderHistoryServiceClient(connection)
	follow := ordersystem.FollowEvents(ctx, history, &ordersv1.StreamEventsRequest{
		CustomerIds: []string{order.GetCustomerId()},
		Start:       ordersv1.StreamStart_STREAM_START_AFTER,
		Cursor:      cursor,
		Follow:      true,
	})
	defer follow.Cancel()
	ship := &ordersv1.ShipOrderRequest{OrderId: order.GetOrderId(), TrackingNumber: "TRACK-1", Carrier: "DHL"}
	if _, err := ordersystem.Send(ctx, orders.ShipOrder, ship); err != nil {
		return err
	}
	if err := showNext(follow); err != nil {
		return err
	}
	deliver := &ordersv1.DeliverOrderRequest{OrderId: order.GetOrderId()}
	if _, err := ordersystem.Send(ctx, orders.DeliverOrder, deliver); err != nil {
		return err
	}
	return showNext(follow)
}

// showNext shows the next event, and skips other messages.
func showNext(follow *ordersystem.Follow[*ordersv1.StreamEventsResponse]) error {
	for {
		message, err := follow.Next()
		if err != nil {
			return err
		}
		if event := message.GetEvent(); event != nil {
			show(event)
			return nil
		}
	}
}

func show(event *eventsv1.OrderEvent) {
	switch what := event.GetEvent().(type) {
	case *eventsv1.OrderEvent_OrderCreated:
		fmt.Println("event:", event.GetRevision(), "created with items:", len(what.OrderCreated.GetItems()))
	case *eventsv1.OrderEvent_OrderPaid:
		fmt.Println("event:", event.GetRevision(), "paid by", what.OrderPaid.GetPaymentMethod())
	case *eventsv1.OrderEvent_OrderShipped:
		fmt.Println("event:", event.GetRevision(), "shipped by", what.OrderShipped.GetCarrier())
	case *eventsv1.OrderEvent_OrderDelivered:
		fmt.Println("event:", event.GetRevision(), "delivered")
	case *eventsv1.OrderEvent_OrderCancelled:
		fmt.Println("event:", event.GetRevision(), "cancelled:", what.OrderCancelled.GetReason())
	}
}

func showDeadline(ctx context.Context, connection *grpc.ClientConn) error {
	// A node issues at most 4096 ids per millisecond.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	_, err := idsv1.NewIdServiceClient(connection).GenerateIds(ctx, &idsv1.GenerateIdsRequest{Count: 100_000})
	if err == nil {
		return errors.New("a hundred thousand ids came in 5 ms")
	}
	fmt.Println("too late:", status.Code(err))
	return nil
}
