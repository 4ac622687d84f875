import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * Calls a class's public methods by their signature, and knows which of them nobody called.
 *
 * <p>The list comes from reflection alone, so a method that a later client adds fails the run until it is called.
 */
final class Calls {
    private final Map<String, Executable> known = new TreeMap<>();
    private final Set<String> called = new TreeSet<>();

    Calls(Class<?>... classes) {
        for (Class<?> c : classes) {
            for (Method m : c.getDeclaredMethods()) {
                if (Modifier.isPublic(m.getModifiers()) && !m.isSynthetic()) {
                    m.setAccessible(true);
                    known.put(key(c, m.getName(), m), m);
                }
            }
            for (Constructor<?> k : c.getConstructors()) {
                known.put(key(c, "new", k), k);
            }
        }
    }

    private static String key(Class<?> c, String name, Executable e) {
        return c.getSimpleName() + "." + name
            + Arrays.stream(e.getParameterTypes()).map(Class::getSimpleName).collect(Collectors.joining(",", "(", ")"));
    }

    /** The method of {@code type}, or of the nearest class above it, with this signature, as in {@code delete(String,int)}. */
    Executable find(Class<?> type, String signature) {
        for (Class<?> c = type; c != null; c = c.getSuperclass()) {
            Executable found = known.get(c.getSimpleName() + "." + signature);
            if (found != null) {
                return found;
            }
            for (Class<?> i : c.getInterfaces()) {
                found = known.get(i.getSimpleName() + "." + signature);
                if (found != null) {
                    return found;
                }
            }
        }
        throw new IllegalArgumentException("no public method " + type.getSimpleName() + "." + signature);
    }

    /** {@code ZooKeeper.delete(String,int)}: as it stands in the transcript. */
    static String name(Executable e) {
        return key(e.getDeclaringClass(), e instanceof Constructor ? "new" : e.getName(), e);
    }

    Object invoke(Executable e, Object target, Object[] args) throws Throwable {
        called.add(name(e));
        try {
            return e instanceof Constructor ? ((Constructor<?>) e).newInstance(args) : ((Method) e).invoke(target, args);
        } catch (InvocationTargetException thrown) {
            throw thrown.getCause();
        }
    }

    /** A call that is not a step of its own. */
    Object use(Object target, String signature, Object... args) throws Exception {
        Class<?> type = target instanceof Class ? (Class<?>) target : target.getClass();
        try {
            return invoke(find(type, signature), target, args);
        } catch (Exception | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }

    int count() {
        return known.size();
    }

    List<String> neverCalled() {
        List<String> rest = new ArrayList<>(known.keySet());
        rest.removeAll(called);
        return rest;
    }
}
