import sys; KEEP=int(sys.argv[1]); sys.argv=["x","import"]
exec(open("details/fuse.py").read())
torch.set_num_threads(1)
rest,dev=splits(); labs=cached(rest,"rest")[::14]
st=load_model("./featherface/weights/featherface.safetensors").eval(); st.head.forget_second_opinion()
b=st.backbone
H=[];Y=[];N=0
rng=np.random.default_rng(0)
with torch.no_grad():
    for l in labs:
        im=l.image; s=rng.choice([1.0,1.0,1.6]); im=cv2.resize(im,None,fx=s,fy=s); im=im[:im.shape[0]//32*32,:im.shape[1]//32*32]
        if rng.random()<.5: im=im[:,::-1]
        x=torch.from_numpy(to_network_input(np.ascontiguousarray(im))[None])
        c4=b.stage2(b.stage1(x)); h=b.stage3[0](c4)            # (1,128,h,w) after act
        l1=b.stage3[1]; d=l1.depthwise(h); y=l1.pointwise.bn(l1.pointwise.conv(d))
        H.append(d[0].flatten(1).T.double()); Y.append(y[0].flatten(1).T.double())
H=torch.cat(H);Y=torch.cat(Y); print(H.shape)
w=1/Y.var(0).sqrt(); Yn=(Y-Y.mean(0))*w; Hc=H-H.mean(0)
G=Hc.T@Hc; C=Hc.T@Yn; tot=(Yn**2).sum()
# backward elimination by exact LS
keep=list(range(128))
def resid(k):
    k=torch.tensor(k); return (tot-(C[k]*torch.linalg.solve(G[k][:,k]+1e-3*torch.eye(len(k)).double(),C[k])).sum())/tot
while len(keep)>KEEP:
    k=torch.tensor(keep); Gi=torch.linalg.inv(G[k][:,k]+1e-3*torch.eye(len(k)).double()); B=Gi@C[k]
    score=(B**2).sum(1)/Gi.diagonal()      # increase of residual when dropped
    drop=int(score.argmin()); keep.pop(drop)
print("kept",len(keep),"fvu",float(resid(keep)))
k=torch.tensor(keep); B=torch.linalg.solve(G[k][:,k]+1e-3*torch.eye(len(k)).double(),C[k])/w  # (K,128)
off=Y.mean(0)-H.mean(0)[k]@B
from featherface.models.backbone import Backbone
nb=Backbone(stage3_channels=(KEEP,128)); sd=b.state_dict(); new=nb.state_dict()
for n in new:
    v=sd[n]
    if n.startswith("stage3.0.pointwise") and v.ndim: v=v[k]
    if n.startswith("stage3.1.depthwise") and v.ndim: v=v[k]
    if n=="stage3.1.pointwise.conv.weight": v=None
    if v is not None: new[n].copy_(v)
bn=nb.stage3[1].pointwise.bn; g=(bn.weight/(bn.running_var+bn.eps).sqrt()).double()
# y = g*(conv - mean)+bias ; want y = B^T d + off  -> conv weight = B^T/g ; mean shift
new["stage3.1.pointwise.conv.weight"].copy_((B.T/g[:,None]).float()[:,:,None,None])
new["stage3.1.pointwise.bn.running_mean"].copy_((bn.running_mean.double()*0 + (bn.bias.double()-off)/g).float())
nb.load_state_dict(new); nb.eval()
with torch.no_grad():
    x=torch.from_numpy(to_network_input(np.ascontiguousarray(labs[3].image[:320,:320]))[None]); 
    a,c=b(x)[2],nb(x)[2]; print("check",((a-c)**2).mean()/a.var())
torch.save(nb.state_dict(),f"details/backbone{KEEP}.pt")
st.backbone=nb
net=Fused(frozen_copy(st), load_model(TEACHER).backbone.stage1).eval(); dev=dev[::2]; dl=cached(dev,"dev")
for side in (1024,320): print("pruned base",side,dev_eval(net,dl,dev,side,False))
