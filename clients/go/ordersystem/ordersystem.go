// Package ordersystem has helpers for clients of the order service, for what the generated stubs alone make hard: [Send] retries commands
// safely, [OrderError] reads errors, [FollowEvents] and [FollowOrder] read event streams across restarts of the service, [ListOrders] reads
// lists page by page, [ParseMoney] and [FormatMoney] are exact with money, and [Connect] opens a connection that is set up for all that.
//
// The messages and stubs themselves are in the packages ordersv1, eventsv1, idsv1 and systemv1 beside this one.
package ordersystem

// Version is the version of this module.
const Version = "0.1.0"
