#[global_allocator]
static GLOBAL: arenite::Arenite = arenite::Arenite::new();
#[test]
fn smoke() {
    let mut v: Vec<Vec<u8>> = Vec::new();
    for i in 0..20000usize {
        v.push(vec![i as u8; (i * 37) % 5000 + 1]);
    }
    for (i, x) in v.iter().enumerate() {
        assert!(x.iter().all(|b| *b == i as u8));
    }
    let mut big: Vec<u8> = Vec::new();
    for i in 0..100_000_000usize {
        big.push(i as u8);
    }
    assert!(big.iter().enumerate().all(|(i, b)| *b == i as u8));
    println!("{}", arenite::stats());
    drop(v);
    drop(big);
    let t = std::thread::spawn(|| (0..1000).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(t.join().unwrap().len(), 1000);
    println!("{}", arenite::trim());
    println!("{}", arenite::stats());
}
