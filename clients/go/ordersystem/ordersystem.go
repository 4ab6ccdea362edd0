// Package ordersystem has helpers for clients of the order service, for where the generated stubs alone hurt: [Send] retries commands
// safely, [OrderError] reads errors, [FollowEvents] and [FollowOrder] read histories over restarts of the service, [ListOrders] reads
// lists page after page, [ParseMoney] and [FormatMoney] are exact with money, and [Connect] opens a connection that is set up for all that.
//
// The messages and stubs themselves are in the packages ordersv1, eventsv1, idsv1 and systemv1 beside this one.
package ordersystem

// Version is the version of this module.
const Version = "0.1.0"
