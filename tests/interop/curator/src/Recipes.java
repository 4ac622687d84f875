import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.WatchedEvent;

/** Curator's recipes with two clients; {@code java Recipes TRANSCRIPT PORT}. */
final class Recipes {
    private static final int PATIENCE_S = 30;
    private final PrintStream out;
    private final CuratorFramework a;
    private final CuratorFramework b;

    private Recipes(PrintStream out, CuratorFramework a, CuratorFramework b) {
        this.out = out;
        this.a = a;
        this.b = b;
    }

    public static void main(String[] args) throws Exception {
        String host = "127.0.0.1:" + args[1];
        try (PrintStream out = new PrintStream(new FileOutputStream(args[0]), true, StandardCharsets.UTF_8);
            CuratorFramework a = CuratorFrameworkFactory.newClient(host, 10_000, 10_000, new RetryOneTime(100));
            CuratorFramework b = CuratorFrameworkFactory.newClient(host, 10_000, 10_000, new RetryOneTime(100))) {
            a.start();
            b.start();
            new Recipes(out, a, b).run();
        }
        System.exit(0);
    }

    private void run() throws Exception {
        nodes();
        locks();
        elections();
        numbers();
        barriers();
        caches();
    }

    private void step(String name, Callable<Object> call) {
        out.println("[" + name + "]");
        Object result;
        try {
            result = call.call();
        } catch (Exception e) {
            result = e.getClass().getSimpleName() + ": " + e.getMessage();
        }
        // Curator's names have ids of 128 bits in front.
        out.println("  " + String.valueOf(result).replaceAll("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"));
    }

    private static boolean until(BooleanSupplier holds) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!holds.getAsBoolean() && System.nanoTime() < end) {
            Thread.sleep(10);
        }
        return holds.getAsBoolean();
    }

    private static List<String> sorted(List<String> names) {
        List<String> copy = new ArrayList<>(names);
        Collections.sort(copy);
        return copy;
    }

    private boolean exists(String path) {
        try {
            return a.checkExists().forPath(path) != null;
        } catch (Exception e) {
            return false;
        }
    }

    private void nodes() {
        step("create with parents", () -> a.create().creatingParentsIfNeeded().forPath("/nodes/x/y", "1".getBytes()));
        step("create parents as containers", () -> a.create().creatingParentContainersIfNeeded().forPath("/held/x/y", "1".getBytes()));
        step("create or set", () -> a.create().orSetData().forPath("/nodes/x/y", "2".getBytes()));
        step("protected", () -> a.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/nodes/p-"));
        step("ttl", () -> a.create().withTtl(3_600_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/nodes/ttl"));
        step("idempotent", () -> a.create().idempotent().forPath("/nodes/x/y", "2".getBytes()));
        step("get", () -> new String(a.getData().forPath("/nodes/x/y")));
        step("set a version", () -> a.setData().withVersion(1).forPath("/nodes/x/y", "3".getBytes()).getVersion());
        step("set a wrong version", () -> a.setData().withVersion(1).forPath("/nodes/x/y", "3".getBytes()).getVersion());
        step("get behind a sync", () -> b.sync().forPath("/") == null ? new String(b.getData().forPath("/nodes/x/y")) : "no");
        step("list", () -> sorted(a.getChildren().forPath("/nodes/x")));
        step("watch", () -> {
            CompletableFuture<WatchedEvent> seen = new CompletableFuture<>();
            b.getData().usingWatcher((org.apache.zookeeper.Watcher) seen::complete).forPath("/nodes/x/y");
            a.setData().forPath("/nodes/x/y", "4".getBytes());
            return seen.get(PATIENCE_S, TimeUnit.SECONDS).getType();
        });
        step("transaction", () -> {
            List<String> results = new ArrayList<>();
            for (CuratorTransactionResult result : a.transaction().forOperations(
                a.transactionOp().create().forPath("/nodes/t", "t".getBytes()), a.transactionOp().setData().forPath("/nodes/t", "u".getBytes()),
                a.transactionOp().check().withVersion(1).forPath("/nodes/t"), a.transactionOp().delete().forPath("/nodes/t"))) {
                results.add(result.getType() + " " + result.getForPath() + " " + result.getResultPath());
            }
            return results;
        });
        step("transaction that fails", () -> {
            List<CuratorOp> operations = List.of(a.transactionOp().create().forPath("/nodes/t"), a.transactionOp().delete().forPath("/none"));
            return a.transaction().forOperations(operations);
        });
        step("delete with children", () -> a.delete().deletingChildrenIfNeeded().forPath("/nodes/x"));
        step("delete guaranteed", () -> a.delete().guaranteed().forPath("/nodes/ttl"));
        step("delete none quietly", () -> a.delete().quietly().forPath("/none"));
        step("below a namespace", () -> a.usingNamespace("space").create().forPath("/x"));
        step("seen from above", () -> exists("/space/x"));
    }

    private void locks() {
        step("lock", () -> {
            InterProcessMutex first = new InterProcessMutex(a, "/lock");
            InterProcessMutex second = new InterProcessMutex(b, "/lock");
            first.acquire();
            boolean denied = !second.acquire(200, TimeUnit.MILLISECONDS);
            first.release();
            boolean given = second.acquire(PATIENCE_S, TimeUnit.SECONDS);
            second.release();
            return "denied " + denied + " then given " + given;
        });
        step("lock for reading and writing", () -> {
            InterProcessReadWriteLock one = new InterProcessReadWriteLock(a, "/rwlock");
            InterProcessReadWriteLock two = new InterProcessReadWriteLock(b, "/rwlock");
            one.readLock().acquire();
            boolean shared = two.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS);
            two.readLock().release();
            boolean denied = !two.writeLock().acquire(200, TimeUnit.MILLISECONDS);
            one.readLock().release();
            boolean given = two.writeLock().acquire(PATIENCE_S, TimeUnit.SECONDS);
            two.writeLock().release();
            return "shared " + shared + " denied " + denied + " given " + given;
        });
        step("semaphore", () -> {
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(a, "/semaphore", 2);
            Lease one = semaphore.acquire();
            Lease two = new InterProcessSemaphoreV2(b, "/semaphore", 2).acquire(PATIENCE_S, TimeUnit.SECONDS);
            Lease three = semaphore.acquire(200, TimeUnit.MILLISECONDS);
            semaphore.returnLease(one);
            Lease four = semaphore.acquire(PATIENCE_S, TimeUnit.SECONDS);
            return (two != null) + " " + (three != null) + " " + (four != null);
        });
    }

    private void elections() {
        step("leader latch", () -> {
            LeaderLatch first = new LeaderLatch(a, "/latch", "first");
            LeaderLatch second = new LeaderLatch(b, "/latch", "second");
            first.start();
            until(first::hasLeadership);
            second.start();
            until(() -> participants(second) == 2);
            String before = second.getLeader().getId();
            first.close();
            boolean taken = until(second::hasLeadership);
            String after = second.getLeader().getId();
            second.close();
            return before + " then " + after + " " + taken;
        });
        step("persistent node", () -> {
            try (PersistentNode node = new PersistentNode(a, CreateMode.EPHEMERAL, false, "/persistent", "x".getBytes())) {
                node.start();
                node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS);
                b.delete().forPath("/persistent");
                return until(() -> exists("/persistent"));
            }
        });
        step("persistent node with a ttl", () -> {
            try (PersistentTtlNode node = new PersistentTtlNode(a, "/ttl", 600_000, "x".getBytes())) {
                node.start();
                return node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS) && until(() -> exists("/ttl/touch") || exists("/ttl"));
            }
        });
        step("service discovery", () -> {
            ServiceInstance<Void> mine = ServiceInstance.<Void>builder().name("service").id("one").address("10.0.0.1").port(80).build();
            try (ServiceDiscovery<Void> discovery =
                ServiceDiscoveryBuilder.builder(Void.class).client(a).basePath("/services").thisInstance(mine).build()) {
                discovery.start();
                ServiceInstance<Void> found = discovery.queryForInstance("service", "one");
                return discovery.queryForNames() + " " + found.getAddress() + ":" + found.getPort();
            }
        });
    }

    private static int participants(LeaderLatch latch) {
        try {
            return latch.getParticipants().size();
        } catch (Exception e) {
            return 0;
        }
    }

    private void numbers() {
        step("shared count", () -> {
            try (SharedCount count = new SharedCount(a, "/count", 5); SharedCount other = new SharedCount(b, "/count", 0)) {
                count.start();
                other.start();
                count.setCount(7);
                return until(() -> other.getCount() == 7);
            }
        });
        step("atomic long", () -> {
            DistributedAtomicLong number = new DistributedAtomicLong(a, "/number", new RetryOneTime(10));
            DistributedAtomicLong other = new DistributedAtomicLong(b, "/number", new RetryOneTime(10));
            number.initialize(10L);
            AtomicValue<Long> sum = other.add(5L);
            AtomicValue<Long> more = number.increment();
            AtomicValue<Long> wrong = number.compareAndSet(1L, 2L);
            return sum.postValue() + " " + more.postValue() + " " + wrong.succeeded();
        });
        step("queue", () -> {
            SimpleDistributedQueue queue = new SimpleDistributedQueue(a, "/queue");
            queue.offer("1".getBytes());
            queue.offer("2".getBytes());
            SimpleDistributedQueue other = new SimpleDistributedQueue(b, "/queue");
            return new String(other.take()) + new String(other.poll(PATIENCE_S, TimeUnit.SECONDS)) + (other.poll() == null);
        });
    }

    private void barriers() {
        step("barrier", () -> {
            DistributedBarrier barrier = new DistributedBarrier(a, "/barrier");
            barrier.setBarrier();
            boolean held = !new DistributedBarrier(b, "/barrier").waitOnBarrier(200, TimeUnit.MILLISECONDS);
            barrier.removeBarrier();
            return held + " " + new DistributedBarrier(b, "/barrier").waitOnBarrier(PATIENCE_S, TimeUnit.SECONDS);
        });
        step("double barrier", () -> {
            DistributedDoubleBarrier one = new DistributedDoubleBarrier(a, "/double", 2);
            DistributedDoubleBarrier two = new DistributedDoubleBarrier(b, "/double", 2);
            CompletableFuture<Boolean> entered = CompletableFuture.supplyAsync(() -> enter(one));
            boolean both = enter(two) & entered.get(PATIENCE_S, TimeUnit.SECONDS);
            CompletableFuture<Boolean> left = CompletableFuture.supplyAsync(() -> leave(one));
            return both & leave(two) & left.get(PATIENCE_S, TimeUnit.SECONDS);
        });
    }

    private static boolean enter(DistributedDoubleBarrier barrier) {
        try {
            return barrier.enter(PATIENCE_S, TimeUnit.SECONDS);
        } catch (Exception e) {
            return false;
        }
    }

    private static boolean leave(DistributedDoubleBarrier barrier) {
        try {
            return barrier.leave(PATIENCE_S, TimeUnit.SECONDS);
        } catch (Exception e) {
            return false;
        }
    }

    private void caches() {
        step("cache", () -> {
            List<String> seen = Collections.synchronizedList(new ArrayList<>());
            a.create().forPath("/cache", new byte[0]);
            try (CuratorCache cache = CuratorCache.build(b, "/cache")) {
                CompletableFuture<Void> ready = new CompletableFuture<>();
                cache.listenable().addListener(org.apache.curator.framework.recipes.cache.CuratorCacheListener.builder()
                    .forInitialized(() -> ready.complete(null)).build());
                cache.start();
                ready.get(PATIENCE_S, TimeUnit.SECONDS);
                cache.listenable().addListener((type, before, after) -> seen.add(type + " " + (after == null ? before : after).getPath()));
                a.create().forPath("/cache/a", "1".getBytes());
                until(() -> seen.size() >= 1);
                a.setData().forPath("/cache/a", "2".getBytes());
                until(() -> seen.size() >= 2);
                a.create().forPath("/cache/a/b", "3".getBytes());
                until(() -> seen.size() >= 3);
                a.delete().deletingChildrenIfNeeded().forPath("/cache/a");
                until(() -> seen.size() >= 5);
                return List.copyOf(seen);
            }
        });
    }
}
