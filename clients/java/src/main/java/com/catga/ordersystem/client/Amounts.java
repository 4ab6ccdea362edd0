package com.catga.ordersystem.client;

import com.google.type.Money;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.function.Function;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Amounts of money, exact: between decimals and the units and nanos of {@code google.type.Money}. */
public final class Amounts {
    /**
     * The currencies that the service takes, with the decimal digits of their minor unit: 2 for USD (cents), 0 for JPY.
     */
    public static final Map<String, Integer> CURRENCIES = read();

    private static final int NANO_DIGITS = 9;
    private static final int NANOS_A_UNIT = 1_000_000_000;
    /** What the service counts with: minor units in 64 bits. */
    private static final BigInteger MOST_MINOR_UNITS = BigInteger.valueOf(Long.MAX_VALUE);
    /** An amount has no more whole digits; so many are refused before anything is raised to a power. */
    private static final long MOST_WHOLE_DIGITS = 19;

    private static final Pattern PLAIN_DECIMAL = Pattern.compile("-?[0-9]+(\\.[0-9]+)?");

    private Amounts() {}

    /**
     * An amount as the protos have it: {@code money("19.99", "USD")}.
     *
     * @param amount a plain decimal number, such as {@code -1.75}
     * @throws IllegalArgumentException as {@link #money(BigDecimal, String)}, or if the text is no plain decimal number
     */
    public static Money money(String amount, String currency) {
        if (!PLAIN_DECIMAL.matcher(amount).matches()) {
            throw new IllegalArgumentException("\"" + amount + "\" is not a plain decimal number");
        }
        return money(new BigDecimal(amount), currency);
    }

    /**
     * An amount as the protos have it. A negative amount is one, although no order of the service can have one.
     *
     * @throws IllegalArgumentException the service does not take the currency, or the amount is finer than the minor unit of the
     *     currency, or larger than 2^63 - 1 minor units
     */
    public static Money money(BigDecimal amount, String currency) {
        Integer digits = CURRENCIES.get(currency);
        if (digits == null) {
            throw new IllegalArgumentException("\"" + currency + "\" is not the code of a currency that the service takes");
        }
        BigDecimal value = amount.stripTrailingZeros();
        if (value.scale() > digits) {
            throw new IllegalArgumentException(amount + " has more decimals than the " + digits + " of " + currency);
        }
        if ((long) value.precision() - value.scale() > MOST_WHOLE_DIGITS) {
            throw new IllegalArgumentException(amount + " " + currency + " is too large");
        }
        BigInteger minor = value.movePointRight(digits).toBigIntegerExact();
        if (minor.abs().compareTo(MOST_MINOR_UNITS) > 0) {
            throw new IllegalArgumentException(amount + " " + currency + " is too large");
        }
        BigInteger[] parts = minor.divideAndRemainder(BigInteger.TEN.pow(digits));
        BigInteger nanos = parts[1].multiply(BigInteger.TEN.pow(NANO_DIGITS - digits));
        return Money.newBuilder()
                .setCurrencyCode(currency)
                .setUnits(parts[0].longValueExact())
                .setNanos(nanos.intValueExact())
                .build();
    }

    /**
     * The amount of what the service says, with all decimals of the currency: {@code 19.99}.
     *
     * @throws IllegalArgumentException units and nanos do not go together
     */
    public static BigDecimal amount(Money money) {
        long units = money.getUnits();
        int nanos = money.getNanos();
        boolean signsAgree = Long.signum(units) * Integer.signum(nanos) >= 0;
        if (!signsAgree || nanos <= -NANOS_A_UNIT || nanos >= NANOS_A_UNIT) {
            throw new IllegalArgumentException("units " + units + " and nanos " + nanos + " do not go together");
        }
        BigDecimal amount = BigDecimal.valueOf(units).add(BigDecimal.valueOf(nanos, NANO_DIGITS)).stripTrailingZeros();
        int digits = CURRENCIES.getOrDefault(money.getCurrencyCode(), 0);
        return amount.setScale(Math.max(amount.scale(), digits));
    }

    private static Map<String, Integer> read() {
        try (var lines = new BufferedReader(new InputStreamReader(
                Amounts.class.getResourceAsStream("currencies.txt"), StandardCharsets.UTF_8))) {
            Function<String[], Integer> digits = parts -> Integer.valueOf(parts[1]);
            return lines.lines().map(line -> line.split(" ")).collect(Collectors.toUnmodifiableMap(parts -> parts[0], digits));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
