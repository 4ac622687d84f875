import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Stat;

/**
 * Values as text that is the same in every run.
 *
 * <p>A zxid is shown by its distance from the section's first one, so it still tells how many zxids were used up; one
 * from before the section is {@code old}. A time is {@code T} when it is about now. Sessions have names.
 */
final class Mask {
    private final Map<Long, String> sessions = new TreeMap<>();
    private long base;

    void base(long zxid) {
        base = zxid;
    }

    void session(long id, String name) {
        sessions.put(id, name);
    }

    String zxid(long zxid) {
        if (zxid <= 0) {
            return Long.toString(zxid);
        }
        return zxid < base ? "old" : "z+" + (zxid - base);
    }

    static String time(long ms) {
        return Math.abs(System.currentTimeMillis() - ms) < 3_600_000 ? "T" : Long.toString(ms);
    }

    String show(Object value) {
        if (value == null) {
            return "null";
        }
        if (value instanceof byte[]) {
            byte[] bytes = (byte[]) value;
            String text = new String(bytes, StandardCharsets.UTF_8);
            boolean readable = bytes.length <= 600 && text.chars().allMatch(c -> c == '\n' || (c >= ' ' && c < 0xFFFD));
            return readable ? "'" + text(text) + "'" : "<" + bytes.length + " bytes>";
        }
        if (value instanceof String) {
            return text((String) value);
        }
        if (value instanceof Stat) {
            return stat((Stat) value);
        }
        if (value instanceof Long && sessions.containsKey(value)) {
            return sessions.get(value);
        }
        if (value instanceof ACL) {
            ACL acl = (ACL) value;
            return acl.getId().getScheme() + ":" + acl.getId().getId() + ":"
                + (acl.getPerms() == 0 ? "none" : ZKUtil.getPermString(acl.getPerms()));
        }
        if (value instanceof ClientInfo) {
            ClientInfo info = (ClientInfo) value;
            return info.getAuthScheme() + "=" + info.getUser();
        }
        if (value instanceof Op) {
            Op op = (Op) value;
            return op.getClass().getSimpleName() + " " + op.getPath();
        }
        if (value instanceof OpResult) {
            return result((OpResult) value);
        }
        if (value instanceof WatchedEvent) {
            WatchedEvent event = (WatchedEvent) value;
            return event.getType() + " " + event.getState() + " " + text(event.getPath());
        }
        if (value instanceof KeeperException) {
            KeeperException e = (KeeperException) value;
            String results = e.getResults() == null ? "" : " results " + show(e.getResults());
            return "KeeperException " + e.code() + " " + text(e.getPath()) + results;
        }
        if (value instanceof Throwable) {
            return value.getClass().getSimpleName() + ": " + text(((Throwable) value).getMessage());
        }
        if (value instanceof Collection) {
            List<String> items = new ArrayList<>();
            boolean sorts = true; // Names of children and ids of a connection have no order of their own.
            for (Object item : (Collection<?>) value) {
                sorts &= item instanceof String || item instanceof ClientInfo;
                items.add(show(item));
            }
            if (sorts) {
                Collections.sort(items);
            }
            return items.size() > 20 ? "<" + items.size() + " items>" : items.stream().collect(Collectors.joining(", ", "[", "]"));
        }
        if (value instanceof Object[]) {
            List<String> items = new ArrayList<>();
            for (Object item : (Object[]) value) {
                items.add(show(item));
            }
            return String.join(", ", items);
        }
        return value instanceof Watcher ? "watcher" : text(value.toString());
    }

    /** Without the ports, ids and counters that differ from run to run. */
    private static String text(String text) {
        if (text == null) {
            return "null";
        }
        String masked = text.replaceAll("(127\\.0\\.0\\.1|localhost|0\\.0\\.0\\.0)(:\\d+)+", "$1:PORT").replaceAll("0x[0-9a-f]+", "0x#")
            .replaceAll("@[0-9a-f]+$", "")            .replace("\n", "\\n");
        return masked.length() > 600 ? "<" + text.length() + " characters>" : masked;
    }

    private String stat(Stat s) {
        String owner = s.getEphemeralOwner() == 0 ? "0" : sessions.getOrDefault(s.getEphemeralOwner(), "somebody");
        return "{czxid " + zxid(s.getCzxid()) + " mzxid " + zxid(s.getMzxid()) + " pzxid " + zxid(s.getPzxid())
            + " ctime " + time(s.getCtime()) + " mtime " + time(s.getMtime())
            + " version " + s.getVersion() + " cversion " + s.getCversion() + " aversion " + s.getAversion()
            + " owner " + owner + " length " + s.getDataLength() + " children " + s.getNumChildren() + "}";
    }

    private String result(OpResult r) {
        if (r instanceof OpResult.CreateResult) {
            OpResult.CreateResult c = (OpResult.CreateResult) r;
            return "created(" + r.getType() + ") " + c.getPath() + (c.getStat() == null ? "" : " " + stat(c.getStat()));
        }
        if (r instanceof OpResult.SetDataResult) {
            return "set(" + r.getType() + ") " + stat(((OpResult.SetDataResult) r).getStat());
        }
        if (r instanceof OpResult.ErrorResult) {
            return "error(" + r.getType() + ") " + ((OpResult.ErrorResult) r).getErr();
        }
        if (r instanceof OpResult.GetDataResult) {
            OpResult.GetDataResult d = (OpResult.GetDataResult) r;
            return "data(" + r.getType() + ") " + show(d.getData()) + " " + stat(d.getStat());
        }
        if (r instanceof OpResult.GetChildrenResult) {
            return "children(" + r.getType() + ") " + show(((OpResult.GetChildrenResult) r).getChildren());
        }
        return r.getClass().getSimpleName() + "(" + r.getType() + ")";
    }
}
