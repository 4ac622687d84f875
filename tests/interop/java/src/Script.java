import java.io.PrintStream;
import java.lang.reflect.Executable;
import java.lang.reflect.Field;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;
import org.apache.zookeeper.AsyncCallback;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/**
 * Makes one call after the other and writes down what came of each: result, filled-in Stat, and the events.
 *
 * <p>A step begins with {@code [section: note]}, a name that no other step has; the lines behind it are its outcome. After
 * each call every connected client does a sync, whose answer comes behind the events of all that was done before.
 */
final class Script {
    /** Stands for the callback in an asynchronous call. */
    static final Object CALLBACK = new Object();

    static final int PATIENCE_S = 30;

    final Calls calls;
    final Mask mask = new Mask();
    private final PrintStream out;
    private final Set<String> names = new HashSet<>();
    private final Map<String, Witness> witnesses = new LinkedHashMap<>();
    private final List<ZooKeeper> clients = new ArrayList<>();
    private String section = "";

    Script(Calls calls, PrintStream out) {
        this.calls = calls;
        this.out = out;
    }

    /** A watcher with a name; its events appear in the step that they came in. */
    final class Witness implements Watcher {
        private final String name;
        private final List<WatchedEvent> events = new ArrayList<>();
        private boolean held;
        private boolean refused;

        private Witness(String name) {
            this.name = name;
        }

        @Override
        public synchronized void process(WatchedEvent event) {
            // How often a client fails to connect while a gate is shut is a matter of time.
            WatchedEvent last = events.isEmpty() ? null : events.get(events.size() - 1);
            boolean again = last != null && event.getType() == Event.EventType.None && event.getState() == last.getState();
            // Nor is it sure that a client that may not come in says that it has closed.
            if (!again && !refused) {
                events.add(event);
            }
            refused |= event.getState() == Event.KeeperState.AuthFailed;
        }

        synchronized boolean saw(Event.KeeperState state) {
            return events.stream().anyMatch(e -> e.getType() == Event.EventType.None && e.getState() == state);
        }

        synchronized int count() {
            return events.size();
        }

        /** Keeps the events for a later step, for it is a matter of time in which step they come. */
        synchronized Witness hold(boolean hold) {
            held = hold;
            return this;
        }

        private synchronized List<WatchedEvent> take() {
            if (held) {
                return List.of();
            }
            List<WatchedEvent> taken = new ArrayList<>(events);
            events.clear();
            if (!taken.isEmpty() && taken.get(taken.size() - 1).getState() == Event.KeeperState.Closed) {
                // The client over TLS may see its own end as a loss first.
                taken.removeIf(event -> event.getType() == Event.EventType.None && event.getState() == Event.KeeperState.Disconnected);
            }
            if (taken.stream().allMatch(event -> event.getType().name().endsWith("WatchRemoved"))) {
                taken.sort(Comparator.comparing(event -> event.getType().name())); // A set in the client, in no order.
            }
            return taken;
        }
    }

    Witness witness(String name) {
        return witnesses.computeIfAbsent(name, Witness::new);
    }

    /** From here on zxids are counted from a node that is made now, {@code /name}. */
    void section(String name, ZooKeeper zk) throws Exception {
        section = name;
        Stat stat = new Stat();
        zk.create("/" + name, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, stat);
        mask.base(stat.getCzxid());
    }

    /** Ends a client's session on the server, for one that does not say goodbye would use up a zxid at some later time. */
    void endSession(ZooKeeper zk, String host) throws Exception {
        ZooKeeper again = new ZooKeeper(host, 10000, event -> { }, zk.getSessionId(), zk.getSessionPasswd());
        again.exists("/", false);
        again.close();
    }

    /** Clients that are synced with before a step's events are written down. */
    void follow(ZooKeeper zk) {
        clients.add(zk);
    }

    void forget(ZooKeeper zk) {
        clients.remove(zk);
    }

    /**
     * Makes a call and writes it down.
     *
     * @param target an object, or a class for its static methods and its constructors (signature {@code new(...)})
     * @return what the call returned; null when it failed
     */
    Object step(String note, Object target, String signature, Object... args) throws Exception {
        begin(note);
        Class<?> type = target instanceof Class ? (Class<?>) target : target.getClass();
        Executable method = calls.find(type, signature);
        Object[] values = args.clone();
        CompletableFuture<Object[]> answer = null;
        for (int i = 0; i < values.length; i++) {
            if (values[i] == CALLBACK) {
                answer = new CompletableFuture<>();
                values[i] = callback(method.getParameterTypes()[i], answer);
            }
        }
        line(Calls.name(method) + " " + given(args));
        Object result = null;
        try {
            result = calls.invoke(method, target, values);
            if (answer != null) {
                line("callback " + mask.show(answer.get(PATIENCE_S, TimeUnit.SECONDS)));
            } else if (!(result instanceof ZooKeeper)) {
                line("-> " + mask.show(result));
            }
            if (target instanceof ZooKeeper && signature.startsWith("close(")) {
                ended((ZooKeeper) target);
            }
        } catch (TimeoutException e) {
            line("no answer");
        } catch (Throwable e) {
            line("-> " + mask.show(e));
        }
        for (Object value : args) {
            if (value instanceof Stat) {
                line("stat " + mask.show(value));
            }
        }
        if (result instanceof ZooKeeper) {
            connected((ZooKeeper) result);
        }
        settle();
        return result;
    }

    /** A step that is not one call. */
    void note(String note, Object value) throws Exception {
        begin(note);
        line(mask.show(value));
        settle();
    }

    /** Waits until something holds, and writes down whether it does; then events that were held back are written down too. */
    void until(String note, String what, BooleanSupplier holds) throws Exception {
        begin(note);
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!holds.getAsBoolean() && System.nanoTime() < end) {
            Thread.sleep(10);
        }
        line((holds.getAsBoolean() ? "" : "not ") + what);
        witnesses.values().forEach(witness -> witness.hold(false));
        settle();
    }

    private void connected(ZooKeeper zk) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!zk.getState().isConnected() && System.nanoTime() < end) {
            Thread.sleep(5);
        }
        line("state " + zk.getState() + " timeout " + zk.getSessionTimeout());
        follow(zk);
    }

    /** Waits until a closed client has told all its watchers so: its thread for events ends behind the last one. */
    private static void ended(ZooKeeper zk) throws Exception {
        Field field = ZooKeeper.class.getDeclaredField("cnxn");
        field.setAccessible(true);
        Object connection = field.get(zk);
        Field thread = connection.getClass().getDeclaredField("eventThread");
        thread.setAccessible(true);
        ((Thread) thread.get(connection)).join(TimeUnit.SECONDS.toMillis(PATIENCE_S));
    }

    private void begin(String note) {
        String name = section + ": " + note;
        if (!names.add(name)) {
            throw new IllegalStateException("two steps are called " + name);
        }
        out.println("[" + name + "]");

    }

    private void line(String text) {
        out.println("  " + text);
    }

    /** Events so far: a sync's callback runs in the event thread, behind all that was told before it. */
    private void settle() throws Exception {
        for (ZooKeeper zk : clients) {
            if (zk.getState().isConnected()) {
                CountDownLatch done = new CountDownLatch(1);
                zk.sync("/", (rc, path, context) -> done.countDown(), null);
                if (!done.await(PATIENCE_S, TimeUnit.SECONDS)) {
                    line("a sync was not answered");
                }
            }
        }
        for (Witness witness : witnesses.values()) {
            for (WatchedEvent event : witness.take()) {
                line("event " + witness.name + ": " + mask.show(event));
            }
        }
    }

    private String given(Object[] args) {
        List<String> shown = new ArrayList<>();
        for (Object arg : args) {
            if (arg instanceof Witness) {
                shown.add("watcher " + ((Witness) arg).name);
            } else if (arg == CALLBACK) {
                shown.add("callback");
            } else if (arg instanceof Stat) {
                shown.add("stat");
            } else if (arg instanceof byte[] || arg instanceof String || arg instanceof Number || arg instanceof Boolean
                || arg instanceof Enum || arg instanceof List || arg == null) {
                shown.add(mask.show(arg));
            } else {
                shown.add(arg.getClass().getSimpleName());
            }
        }
        return String.join(", ", shown);
    }

    private static Object callback(Class<?> type, CompletableFuture<Object[]> answer) {
        if (!AsyncCallback.class.isAssignableFrom(type)) {
            throw new IllegalArgumentException(type + " is not a callback");
        }
        return Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (proxy, method, args) -> {
            if (method.getName().equals("processResult")) {
                Object[] shown = Arrays.copyOf(args, args.length);
                shown[0] = KeeperException.Code.get((Integer) args[0]);
                answer.complete(shown);
            }
            return null;
        });
    }
}
