//! Which pool a request belongs to: by listener, by host, by path.

use crate::harness::client::Client;
use crate::harness::engine::each;
use crate::harness::origin::Origin;
use crate::harness::port::Port;
use crate::harness::recipe::Recipe;
use std::fmt::Write;

/// Pools named after what they answer.
fn pools(recipe: Recipe, origins: &[(&str, &Origin)]) -> Recipe {
    origins
        .iter()
        .fold(recipe, |recipe, (name, origin)| recipe.servers(name, &[&origin.address], ""))
}

fn ask(client: &mut Client, host: &str, path: &str) -> String {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let answer = client.answer();
    if answer.status() == 200 { answer.text().to_owned() } else { answer.status().to_string() }
}

fn site(name: &str, hosts: &str, routes: &[(&str, &str)]) -> String {
    let mut text = format!("[[site]]\nname = \"{name}\"\nhosts = {hosts}\n");
    for (path, pool) in routes {
        write!(text, "[[site.route]]\npath = \"{path}\"\npool = \"{pool}\"\n").unwrap();
    }
    text
}

#[test]
fn hosts_go_by_exact_name_then_longest_suffix_then_any() {
    each(|engine| {
        let (exact, short, long, any) = (
            Origin::saying("exact"),
            Origin::saying("short"),
            Origin::saying("long"),
            Origin::saying("any"),
        );
        let recipe = Recipe::new(engine)
            .text(&site("s1", "[\"*.example\"]", &[("/", "short")]))
            .text("[[site]]\nname = \"s2\"\n[[site.route]]\npath = \"/\"\npool = \"any\"\n")
            .text(&site("s3", "[\"*.shop.example\"]", &[("/", "long")]))
            .text(&site("s4", "[\"shop.example\", \"www.shop.example\"]", &[("/", "exact")]));
        let origins = [("exact", &exact), ("short", &short), ("long", &long), ("any", &any)];
        let gate = pools(recipe, &origins).start();
        let mut client = gate.client();
        for (host, pool) in [
            ("shop.example", "exact"),
            ("SHOP.Example", "exact"),
            ("shop.example:8080", "exact"),
            ("shop.example.", "exact"),
            ("www.shop.example", "exact"),
            ("a.shop.example", "long"),
            ("a.b.shop.example", "long"),
            ("other.example", "short"),
            ("notshop.example", "short"),
            ("example", "any"),
            ("127.0.0.1", "any"),
            ("[::1]:80", "any"),
        ] {
            assert_eq!(ask(&mut client, host, "/"), pool, "{host}");
        }
    });
}

#[test]
fn paths_go_by_the_longest_prefix_of_whole_segments() {
    each(|engine| {
        let (root, shop, cart) =
            (Origin::saying("root"), Origin::saying("shop"), Origin::saying("cart"));
        let recipe = Recipe::new(engine).text(
            "[[site]]\nname = \"all\"\n[[site.route]]\npath = \"/shop/cart\"\npool = \"cart\"\n\
             [[site.route]]\npath = \"/\"\npool = \"root\"\n[[site.route]]\npath = \"/shop\"\npool = \"shop\"\n",
        );
        let gate = pools(recipe, &[("root", &root), ("shop", &shop), ("cart", &cart)]).start();
        let mut client = gate.client();
        for (path, pool) in [
            ("/", "root"),
            ("/shop", "shop"),
            ("/shop/", "shop"),
            ("/shop?cart", "shop"),
            ("/shopping", "root"),
            ("/shop/cart", "cart"),
            ("/shop/cart/1", "cart"),
            ("/shop/carts", "shop"),
            ("/other/shop", "root"),
            ("/%73hop", "shop"),
            ("/other/../shop/x", "shop"),
            ("/shop/./cart", "cart"),
            ("/Shop", "root"),
        ] {
            assert_eq!(ask(&mut client, "a", path), pool, "{path}");
        }
        // The application gets the target as the client wrote it.
        assert!(cart.targets().contains(&"/shop/./cart".to_owned()), "{:?}", cart.targets());
    });
}

#[test]
fn a_site_may_belong_to_one_listener() {
    each(|engine| {
        let (public, private) = (Origin::saying("public"), Origin::saying("private"));
        let second = Port::claim();
        let recipe = Recipe::new(engine);
        let first = recipe.port.address();
        let recipe = recipe.listen(&second.address()).text(&format!(
            "[[site]]\nname = \"public\"\nlisten = [\"{first}\"]\n[[site.route]]\npath = \"/\"\npool = \"public\"\n\
             [[site]]\nname = \"private\"\nlisten = [\"{}\"]\n[[site.route]]\npath = \"/\"\npool = \"private\"\n",
            second.address()
        ));
        let gate = pools(recipe, &[("public", &public), ("private", &private)]).start();
        assert_eq!(ask(&mut Client::connect(&first), "a", "/"), "public");
        assert_eq!(ask(&mut Client::connect(&second.address()), "a", "/"), "private");
        drop(gate);
    });
}

#[test]
fn thousands_of_sites_and_routes_are_all_found() {
    each(|engine| {
        let (even, odd) = (Origin::saying("even"), Origin::saying("odd"));
        let mut text = String::new();
        for number in 0..1000 {
            let pool = if number % 2 == 0 { "even" } else { "odd" };
            let routes = [("/", pool), ("/a/b", "even"), ("/a/b/c", "odd")];
            text += &site(&format!("s{number}"), &format!("[\"h{number}.example\"]"), &routes);
        }
        let gate =
            pools(Recipe::new(engine).text(&text), &[("even", &even), ("odd", &odd)]).start();
        let mut client = gate.client();
        for number in (0..1000).step_by(37) {
            let host = format!("h{number}.example");
            let own = if number % 2 == 0 { "even" } else { "odd" };
            assert_eq!(ask(&mut client, &host, "/"), own, "{host}");
            assert_eq!(ask(&mut client, &host, "/a/b/x"), "even", "{host}");
            assert_eq!(ask(&mut client, &host, "/a/b/c/x"), "odd", "{host}");
        }
        assert_eq!(ask(&mut client, "h1000.example", "/"), "404");
    });
}

#[test]
fn one_connection_may_ask_for_many_hosts() {
    each(|engine| {
        let (a, b) = (Origin::saying("a"), Origin::saying("b"));
        let recipe = Recipe::new(engine)
            .text(&site("a", "[\"a.example\"]", &[("/", "a")]))
            .text(&site("b", "[\"b.example\"]", &[("/", "b")]));
        let gate = pools(recipe, &[("a", &a), ("b", &b)]).start();
        let mut client = gate.client();
        for _ in 0..3 {
            assert_eq!(ask(&mut client, "a.example", "/"), "a");
            assert_eq!(ask(&mut client, "b.example", "/"), "b");
        }
    });
}
